# SPDX-License-Identifier: GPL-2.0
#
# WSR: working set reporting for Linux guests.  "make help" lists the targets;
# each is a short script of scripts/, which can be called by itself.

BASE ?= 6.12
export BASE KSRC QEMU_SRC JOBS

STEPS := scripts/steps

help:
	@sed -n 's/^## //p' Makefile

## make demo        boot a guest with a workload, show its working set live
demo:
	@$(STEPS) packages qemu kernel guest tools demo

## make check       all tests that must pass before a change lands
check:
	@$(STEPS) packages packages-fuzz packages-libvirt packages-web qemu qemu-stock \
		kernel kernel-nowsr guest tools check

## make check-full  adds debug kernels, accuracy, benchmarks, bisect (hours);
##                  ONLY="check kasan faults kcsan vmm qemu-10.2 systemd
##                  accuracy bench bisect fuzz" selects
check-full:
	@$(STEPS) packages packages-fuzz packages-libvirt packages-web \
		packages-systemd qemu qemu-stock kernel kernel-nowsr guest tools check-full

## make accuracy    are the histograms true?   -> build/results/accuracy.tsv
accuracy:
	@$(STEPS) packages qemu kernel guest accuracy

## make bench       what reporting costs       -> build/results/bench.tsv
bench:
	@$(STEPS) packages qemu kernel guest bench

## make e2e-host    guests on a host with too little memory, with wsrd and with
##                  the rules of others (root) -> build/results/host.tsv
e2e-host:
	@$(STEPS) packages qemu kernel guest tools e2e-host

## make run         boot the guest with a shell on this terminal
run:
	@$(STEPS) packages qemu kernel guest run

## make kernel      the guest kernel           -> build/out/linux-$BASE/
kernel:
	@$(STEPS) packages kernel

## make qemu        the patched QEMU           -> build/out/qemu/
qemu:
	@$(STEPS) packages qemu

## make guest       the guest's initramfs      -> build/out/guest.cpio.gz
guest:
	@$(STEPS) packages source guest

## make tools       the programs for the host  -> build/out/bin/
tools:
	@$(STEPS) packages tools

## make series      git am-able patches        -> build/series/
series:
	@$(STEPS) packages series

## make bisect      apply the exported patches with git am, build after each
bisect:
	@$(STEPS) packages series bisect

## make lint        checkpatch, sparse, W=1, kernel-doc, shellcheck, ...
lint:
	@$(STEPS) packages packages-lint lint

## make lint-quick  what of it takes seconds
lint-quick:
	@scripts/lint --quick

## make clean       remove build/ but for the unpacked source trees
clean:
	@cd build 2>/dev/null && ls -A | grep -vx -e src -e tools | \
		xargs -r rm -rf || true

## make distclean   remove build/ (downloads and ccache stay in ~/.cache/wsr)
distclean:
	rm -rf build

##
## Variables: BASE=6.12|7.2 (kernel, default 6.12), KSRC=/path/to/linux and
## QEMU_SRC=/path/to/qemu (your own trees), JOBS=N.  Logs: build/logs/.

.PHONY: help demo check check-full accuracy bench e2e-host run kernel qemu guest tools \
	series bisect lint lint-quick clean distclean
