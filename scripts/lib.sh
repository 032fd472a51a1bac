# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0
#
# Common to the scripts here: directories, progress and logs.  Source it first.

set -euo pipefail

TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
BUILD=$TOP/build
OUT=$BUILD/out
LOGS=$BUILD/logs
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/wsr
JOBS=${JOBS:-$(nproc)}
# shellcheck disable=SC2034	# used by the scripts that source this file
DEFAULT_BASE=6.12
PROGRAM=$(basename "$0")

# What make passes to its children is not meant for the makes started here.
unset MAKEFLAGS MFLAGS MAKELEVEL MAKEOVERRIDES

mkdir -p "$OUT" "$LOGS" "$CACHE/dl"

# Compilations are shared between build directories and between clones: paths
# below build/ are hashed relative to the directory of the compilation.
export CCACHE_DIR=$CACHE/ccache CCACHE_BASEDIR=$BUILD CCACHE_NOHASHDIR=1
export CCACHE_MAXSIZE=${CCACHE_MAXSIZE:-5G}

# Nothing here depends on the user's language.
export LC_ALL=C.UTF-8

die() {
	printf '%s: %s\n' "$PROGRAM" "$*" >&2
	exit 1
}

# elapsed SECONDS: mm:ss
elapsed() {
	printf '%02d:%02d' $(($1 / 60)) $(($1 % 60))
}

# scripts/steps runs several scripts as one target and exports which step of how
# many this is, and when the target began.
: "${WSR_STEP=1/1}" "${WSR_BEGAN=$(date +%s)}"
export WSR_STEP WSR_BEGAN

# say WHAT: a line "[n/m] mm:ss what"
say() {
	local now
	now=$(date +%s)
	printf '[%s] %s %s\n' "$WSR_STEP" "$(elapsed $((now - WSR_BEGAN)))" "$*"
}

# A function count_done LOG may print how far a logged command is.
count_nothing() { :; }

count_kernel() {
	printf '%s objects' "$(grep -cE '^ +(CC|AS|HOSTCC|LD|AR) ' "$1" || true)"
}

count_ninja() {
	tail -c 4000 "$1" | grep -oE '\[[0-9]+/[0-9]+\]' | tail -1 || true
}

# progress PID WHAT COUNTER LOG: report until the process ends
progress() {
	local pid=$1 what=$2 counter=$3 log=$4 began=$SECONDS last=$SECONDS
	while kill -0 "$pid" 2>/dev/null; do
		if [ -t 1 ]; then
			printf '\r\033[K%s: %s %s' "$(say "$what")" \
				"$(elapsed $((SECONDS - began)))" "$("$counter" "$log")"
			sleep 1
		else
			if [ $((SECONDS - last)) -ge 15 ]; then
				last=$SECONDS
				say "$what: $("$counter" "$log")"
			fi
			sleep 0.3
		fi
	done
	if [ -t 1 ]; then
		printf '\r\033[K'
	fi
}

# logged LOGNAME WHAT COUNTER COMMAND...: run a command with its output in
# build/logs/LOGNAME.log, show its progress; if it fails show the end of the
# log and return 1.
logged() {
	local log=$LOGS/$1.log what=$2 counter=$3 pid
	shift 3
	say "$what"
	# A log of its own for each run: the last one is kept as .old
	[ ! -e "$log" ] || mv -f "$log" "$log.old"
	printf '+ %s\n' "$*" >"$log"
	# In a process group of its own, so that an interrupt ends all of it.
	set -m
	"$@" >>"$log" 2>&1 </dev/null &
	pid=$!
	set +m
	# shellcheck disable=SC2064	# this pid
	trap "kill -- -$pid 2>/dev/null || true; exit 130" INT TERM HUP
	progress "$pid" "$what" "$counter" "$log"
	if wait "$pid"; then
		trap - INT TERM HUP
		return 0
	fi
	trap - INT TERM HUP
	printf '%s: "%s" failed; the last lines of %s:\n' "$PROGRAM" "$what" \
		"$log" >&2
	tail -n 30 "$log" | sed 's/^/  /' >&2
	printf '%s: the full log is %s\n' "$PROGRAM" "$log" >&2
	return 1
}

# lock NAME: one at a time; held until the script ends.  What it starts and leaves
# running must not inherit it, so nothing here runs in the background for longer.
lock() {
	mkdir -p "$BUILD/.lock"
	exec 9>"$BUILD/.lock/$1"
	flock -n 9 && return
	say "waiting for another $PROGRAM ($1) to end"
	flock 9
}

# The name of a base's tree; dies if there is no such base.
linux_base() {
	case ${1:-} in
	6.12 | 7.2) printf 'linux-%s' "$1" ;;
	*) die "unknown base '${1:-}'; BASE is 6.12 or 7.2" ;;
	esac
}

# digest FILE...: one checksum for all contents
digest() {
	cat "$@" | sha256sum | cut -d' ' -f1
}

# put FILE PLACE: copy unless the same is there.  A running guest may use the
# old file, so it is replaced, not overwritten.
put() {
	cmp -s "$1" "$2" && return
	cp --remove-destination "$1" "$2"
}

# work_tree NAME DIRECTORY: a copy of the pristine build/src/NAME that may be
# changed.  It consists of hard links: whoever changes a file in it must
# replace it, as scripts/overlay and git do, never write in place.
work_tree() {
	local source=$BUILD/src/$1 tree=$2
	if [ -e "$tree/.wsr-source" ] &&
		cmp -s "$tree/.wsr-source" "$source/.wsr-source"; then
		return
	fi
	say "making the work tree ${tree#"$TOP"/}"
	rm -rf "$tree" "$tree.new"
	mkdir -p "$(dirname "$tree")"
	cp -alH "$source" "$tree.new"
	mv "$tree.new" "$tree"
}
