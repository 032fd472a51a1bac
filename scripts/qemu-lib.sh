# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0
#
# Configuring and building QEMU.  Source it after lib.sh.

DEFAULT_QEMU=10.0

# The name of a base's tree; dies if there is no such base.
qemu_base() {
	case $1 in
	10.0 | 10.2) printf 'qemu-%s' "$1" ;;
	*) die "unknown base '$1'; QEMU's is 10.0 or 10.2" ;;
	esac
}

# qemu_name BASE: what its build is called below build/ and build/out/
qemu_name() {
	printf 'qemu%s' "$([ "$1" = "$DEFAULT_QEMU" ] || printf -- '-%s' "$1")"
}

# meson and pycotap, newer than Debian 12's
export PYTHONPATH=$BUILD/tools/py/usr/lib/python3/dist-packages

run_configure() {
	local tree=$1 obj=$2
	cd "$obj" || return
	"$tree/configure" --cc='ccache gcc' --python=/usr/bin/python3 \
		--disable-download --target-list=x86_64-softmmu \
		--without-default-features --enable-system --enable-tcg --enable-kvm \
		--enable-vhost-user --enable-attr --enable-fdt=system \
		--disable-docs --disable-werror --disable-tools \
		--disable-install-blobs
}

# apply_test_patches TREE: changes that only tests need, outside of the series.
# Must not touch files of the series; patch replaces files, as work_tree demands.
apply_test_patches() {
	local patch
	for patch in "$TOP"/patches/qemu-test/*.patch; do
		patch -d "$1" -p1 -F0 -R -s -f --dry-run <"$patch" >/dev/null ||
			patch -d "$1" -p1 -F0 -s -f <"$patch" || return
	done
}

# log_name OBJ: "stock-qemu" for build/stock/qemu
log_name() {
	printf '%s-%s' "$(basename "$(dirname "$1")")" "$(basename "$1")"
}

# configure_qemu LABEL TREE OBJ
configure_qemu() {
	local label=$1 tree=$2 obj=$3 stamp
	stamp=$(printf '%s ' "$tree" "$(cat "$tree/VERSION")" \
		"$(declare -f run_configure | sha256sum)")
	if [ -e "$obj/build.ninja" ] &&
		[ "$(cat "$obj/.wsr-config" 2>/dev/null)" = "$stamp" ]; then
		return
	fi
	rm -rf "$obj"
	mkdir -p "$obj"
	logged "configure-$(log_name "$obj")" "$label: configuring" \
		count_nothing run_configure "$tree" "$obj" || return 1
	printf '%s\n' "$stamp" >"$obj/.wsr-config"
}

# qemu_tests TREE: the qtests of the balloon that this tree has
qemu_tests() {
	local test
	for test in virtio-balloon-test virtio-balloon-working-set-test; do
		[ ! -e "$1/tests/qtest/$test.c" ] || printf '%s\n' "$test"
	done
}

# build_qemu LABEL OBJ QTEST...
build_qemu() {
	local label=$1 obj=$2
	shift 2
	logged "$(log_name "$obj")" "$label: compiling" count_ninja \
		ninja -C "$obj" -j"$JOBS" qemu-system-x86_64 \
		"${@/#/tests/qtest/}"
}
