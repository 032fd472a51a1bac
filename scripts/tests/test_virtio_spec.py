#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""The wire format is written down in several places, for different readers. Do
they have the same numbers, and is the LaTeX among them sound?"""

import collections
import pathlib
import re
import shutil
import subprocess
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
RST = "Documentation/virtio/working-set.rst"
TEX = "Documentation/virtio/working-set.tex"
KERNEL = "patches/linux/14-virtio-balloon/hooks-7.2.patch"
OTHER_HEADERS = ["patches/linux/14-virtio-balloon/hooks-6.12.patch",
                 "patches/qemu/02-header/hooks.patch"]
MAX_RECORDS = {
    RST: r"up to\s+(\d+) records",
    TEX: r"up to\s+(\d+) records",
    "drivers/virtio/virtio_balloon_wsr.c":
        r"define VIRTIO_BALLOON_WSR_MAX_RECORDS\s+(\d+)",
    "patches/qemu/03-queue/hooks.patch":
        r"define VIRTIO_BALLOON_WORKING_SET_MAX_RECORDS\s+(\d+)",
}

CONFIG = "virtio_balloon_config"
HDR = "virtio_balloon_working_set_hdr"
BIN = "virtio_balloon_working_set_bin"
FIRST_OFFSET = 16  # of our fields in CONFIG

SIZES = {"u8": 1, "le16": 2, "le32": 4, "le64": 8}
# QEMU has the kernel's header with these types.
QEMU_TYPES = {"uint8_t": "u8", "uint16_t": "le16", "uint32_t": "le32",
              "uint64_t": "le64"}

# What the parts of the LaTeX file need of the virtio specification
DOCUMENT = r"""
\documentclass{article}
\usepackage{tabularx}
\usepackage{verbatim}
\setlength{\textwidth}{16cm}
\newenvironment{lstlisting}{\verbatim}{\endverbatim}
\newenvironment{note}{\begin{quote}}{\end{quote}}
\newcommand{\field}[1]{\emph{#1}}
\newcommand{\drivernormative}[3]{#1{Driver: #2}\label{drivernormative:#3}}
\newcommand{\devicenormative}[3]{#1{Device: #2}\label{devicenormative:#3}}
\begin{document}
\catcode`\_=12
\drivernormative{\section}{Feature bits}{Device Types / Memory Balloon Device /
Feature bits}
"""


def read(path):
    return (ROOT / path).read_text(encoding="utf-8")


def header(path):
    """virtio_balloon.h, as far as a patch shows it."""
    patch = read(path)
    patch = patch[patch.index("linux/virtio_balloon.h\n@@"):]
    patch = re.split(r"^(?:--- |diff )", patch, flags=re.MULTILINE)[0]
    return re.sub("^[+ ]", "", patch, flags=re.MULTILINE)


def parts():
    """The parts of the LaTeX file, as in "Virtqueues, end": text."""
    _, *rest = re.split(r"^% == (.*)\n", read(TEX), flags=re.MULTILINE)
    return dict(zip(rest[::2], rest[1::2]))


def bare(name):
    """Names without what they have only in some places"""
    return re.sub(r"^working_set_|(?<=reserved)\d$", "", name)


def structure(text, name):
    """[(offset, type, name)] of the fields of a structure in C, and at its end
    the size. There must be no gaps between them."""
    body = re.search(rf"^( *)struct {name} {{(.*?)^\1}};", text,
                     re.MULTILINE | re.DOTALL)[2]
    offset = 0
    if name == CONFIG:
        body = body.split("poison_val;")[1]
        offset = FIRST_OFFSET
    fields = []
    for kind, field, count in re.findall(
            r"^\s*(?:__)?(u\w+|le\d+) (\w+)(?:\[(.+)\])?;", body, re.MULTILINE):
        kind = QEMU_TYPES.get(kind, kind)
        if offset % SIZES[kind]:
            raise AssertionError(f"{name}.{field} is not aligned: {offset}")
        if count:
            count = 15 if "MAX_BINS - 1" in count else int(count)
        fields.append((offset, f"{kind}[{count}]" if count else kind,
                       bare(field)))
        offset += SIZES[kind] * (count or 1)
    return fields + [(offset, "", "end")]


def constants(text):
    return dict(re.findall(
        r"#define VIRTIO_BALLOON_(\w*WORKING_SET\w*)\s+(\w+)", text))


def offsets(fields):
    return [(offset, name) for offset, _, name in fields]


class Numbers(unittest.TestCase):
    """The kernel's header is what the others are compared to."""

    def setUp(self):
        text = header(KERNEL)
        self.constants = constants(text)
        self.structures = {name: structure(text, name)
                           for name in (CONFIG, HDR, BIN)}
        for fields in self.structures.values():
            self.assertEqual(fields[-1][0] % 8, 0)

    def compare_structures(self, text, names):
        for name in names:
            self.assertEqual(structure(text, name), self.structures[name])

    def test_other_headers(self):
        for path in OTHER_HEADERS:
            with self.subTest(path):
                text = header(path)
                self.compare_structures(text, self.structures)
                self.assertEqual(constants(text), self.constants)

    def test_rst_structures(self):
        text = read(RST)
        self.compare_structures(text, (HDR, BIN))
        said = re.findall(r"^ +(?:u|le)\d+ (\w+); +/\* +(\d+) \*/", text,
                          re.MULTILINE)
        said += [("end", size) for size in
                 re.findall(rf"(?:{HDR}|{BIN}) {{ +/\* (\d+) bytes", text)]
        meant = offsets(self.structures[HDR]) + offsets(self.structures[BIN])
        self.assertEqual(sorted((int(offset), bare(name))
                                for name, offset in said), sorted(meant))

    def test_rst_configuration(self):
        rows = re.findall(r"^(\d+) +((?:u|le)\S+)? *(\w+|\(end\))", read(RST),
                          re.MULTILINE)
        self.assertEqual([(int(offset), kind, bare(name.strip("()")))
                          for offset, kind, name in rows],
                         self.structures[CONFIG])

    def test_tex_structures(self):
        text = read(TEX)
        self.compare_structures(text, self.structures)
        for name in HDR, BIN:
            self.assertEqual(
                int(re.search(rf"struct {name} is (\d+) bytes long", text)[1]),
                self.structures[name][-1][0])

    def test_tex_tables(self):
        tables = re.findall(r"\\begin{(tabularx?)}(.*?)\\end{\1}", read(TEX),
                            re.DOTALL)
        self.assertEqual(len(tables), len(self.structures))
        for (_, table), fields in zip(tables, self.structures.values()):
            rows = re.findall(r"^(\d+) & ([\w\[\]]*) *& (?:\\field{(\w+)})?", table,
                              re.MULTILINE)
            self.assertEqual([(int(offset), kind, bare(name or "end"))
                              for offset, kind, name in rows], fields)

    def test_tex_constants(self):
        said = constants(read(TEX))
        self.assertEqual({**self.constants, **said}, self.constants)
        # Those that the text says in words
        self.assertEqual(set(self.constants) - set(said),
                         {"F_WORKING_SET", "F_WORKING_SET_RECLAIM",
                          "WORKING_SET_MAX_BINS"})

    def test_words(self):
        c = {re.sub("^WORKING_SET_", "", name): value
             for name, value in self.constants.items()}
        bit = {name: int(c[name]).bit_length() - 1
               for name in ("F_MORE", "F_WARMING_UP")}
        rst = " ".join(read(RST).split())
        for words in (f"VIRTIO_BALLOON_F_WORKING_SET ({c['F_WORKING_SET']})",
                      "VIRTIO_BALLOON_F_WORKING_SET_RECLAIM "
                      f"({c['F_WORKING_SET_RECLAIM']})",
                      f"2 to {c['MAX_BINS']}",
                      f"{c['OK']} OK; {c['UNSUPPORTED']} UNSUPPORTED",
                      f"{c['TRY_LATER']} TRY_LATER",
                      f"Bit {bit['F_MORE']} MORE",
                      f"Bit {bit['F_WARMING_UP']} WARMING_UP",
                      f"{c['NO_NODE']}: the record covers all nodes"):
            self.assertIn(words, rst)
        tex = " ".join(read(TEX).split())
        for words in (f"VIRTIO_BALLOON_F_WORKING_SET({c['F_WORKING_SET']})",
                      "VIRTIO_BALLOON_F_WORKING_SET_RECLAIM"
                      f"({c['F_WORKING_SET_RECLAIM']})",
                      f"2 to {c['MAX_BINS']}",
                      f"{c['NO_NODE']}: the record covers all nodes"):
            self.assertIn(words, tex)

    def test_number_of_records(self):
        found = {path: re.findall(pattern, read(path))
                 for path, pattern in MAX_RECORDS.items()}
        self.assertEqual(found, dict.fromkeys(MAX_RECORDS, ["128"]))


class Statements(unittest.TestCase):
    """A statement that changed in one of the two has to change in the other."""

    def keywords(self, text):
        found = collections.Counter(re.findall(
            r"\b(?:MUST|SHOULD)(?: NOT)?\b|\bMAY\b", " ".join(text.split())))
        self.assertTrue(found)
        return found

    def test_tex_has_those_of_rst(self):
        rst, tex = read(RST), parts()
        operation = next(text for place, text in tex.items()
                         if place.endswith("Device Operation, end"))
        parts_of_roles = zip(("Driver", "Device"),
                             re.split(r"\\d\w+normative", operation)[1:])
        for role, statements in parts_of_roles:
            with self.subTest(role):
                statements += next(
                    text for place, text in tex.items() if "Feature bits, end of "
                    f"the {role.lower()} requirements" in place)
                meant = rst.split(f"\n{role} requirements\n")[1]
                meant = re.split(r"\n.+\n---+\n", meant)[0]
                self.assertEqual(self.keywords(statements),
                                 self.keywords(meant))


class Latex(unittest.TestCase):
    def test_each_part_is_balanced(self):
        for place, text in parts().items():
            with self.subTest(place):
                opened = []
                for kind, name in re.findall(r"\\(begin|end){(\w+)}", text):
                    if kind == "begin":
                        opened.append(name)
                    else:
                        self.assertEqual(opened and opened.pop(), name)
                self.assertEqual(opened, [])
                depth = 0
                for brace in re.findall(r"(?<!\\)[{}]", text):
                    depth += 1 if brace == "{" else -1
                    self.assertGreaterEqual(depth, 0)
                self.assertEqual(depth, 0)

    def test_conformance_refers_to_all_requirements(self):
        by_place = parts()
        for kind in "driver", "device":
            defined = [label for text in by_place.values() for label in
                       re.findall(rf"\\{kind}normative{{.*}}{{.*}}{{(.*)}}",
                                  text)]
            listed = [label for place, text in by_place.items()
                      if f"{kind}-conformance.tex" in place for label in
                      re.findall(rf"\\ref{{{kind}normative:(.*)}}", text)]
            self.assertEqual(listed, defined)
            self.assertTrue(defined)

    @unittest.skipUnless(shutil.which("pdflatex"), "no pdflatex")
    def test_pdflatex_accepts_it(self):
        document = DOCUMENT
        for text in parts().values():
            if text.lstrip().startswith(r"\item"):
                text = rf"\begin{{description}}{text}\end{{description}}"
            document += text + "\n"
        document += r"\end{document}"
        with tempfile.TemporaryDirectory() as directory:
            (pathlib.Path(directory) / "part.tex").write_text(document)
            for _ in range(2):  # the second time with the labels of the first
                done = subprocess.run(
                    ["pdflatex", "-interaction=nonstopmode", "-halt-on-error",
                     "part"], cwd=directory, stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                    encoding="utf-8", errors="replace", check=False)
            self.assertEqual(done.returncode, 0, done.stdout)
            self.assertNotIn("undefined", done.stdout)
            self.assertNotIn("multiply defined", done.stdout)


if __name__ == "__main__":
    unittest.main()
