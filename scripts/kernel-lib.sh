# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0
#
# Configuring and building kernels.  Source it after lib.sh.

# The same sources give the same kernel, whoever builds it, wherever, whenever.
export KBUILD_BUILD_TIMESTAMP='Thu Jan  1 00:00:00 UTC 2026'
export KBUILD_BUILD_USER=wsr KBUILD_BUILD_HOST=localhost KBUILD_BUILD_VERSION=1
# Set and empty: no "+" in the release because of a git tree.
export LOCALVERSION=

# kbuild TREE OBJ ARGUMENT...: make in an output directory
kbuild() {
	local tree=$1 obj=$2
	shift 2
	make -C "$tree" O="$obj" CC='ccache gcc' HOSTCC='ccache gcc' \
		-j"$JOBS" "$@"
}

# only_elsewhere BASE: the options that kernel.config names for other bases
only_elsewhere() {
	sed -n 's/^# only in \([0-9.]*\): /\1 /p' "$TOP/scripts/kernel.config" |
		awk -v base="$1" '$1 != base { for (i = 2; i <= NF; i++) print $i }'
}

# check_config BASE FRAGMENT CONFIG OPTION...: die if an option of the fragment
# did not come out as asked; the options named here may.
check_config() {
	local base=$1 fragment=$2 config=$3 lost
	shift 3
	# The last line that names an option counts.
	lost=$(awk -F= 'FNR == 1 { file++ }
		/^CONFIG_/ { name = $1; value = $0 }
		/^# CONFIG_.* is not set/ { split($0, w, " "); name = w[2]; value = "" }
		!/^CONFIG_/ && !/^# CONFIG_.* is not set/ { next }
		file == 1 { other[$1] }
		file == 2 { want[name] = value }
		file == 3 { have[name] = value }
		END { for (name in want)
			if (want[name] != have[name] && !(name in other)) print name }' \
		<(printf '#\n'; only_elsewhere "$base"; printf '%s\n' "$@") "$fragment" "$config" | sort)
	[ -z "$lost" ] || die "kernel $base: these options did not come out as asked
  (a dependency is missing, or the option does not exist in this base):
$(printf '%s\n' "$lost" | sed 's/^/    /')"
}

# configure_kernel BASE TREE OBJ WSR FRAGMENT...: WSR is y, n, or try: as much of
# it as the tree has.  Only does something if an input changed.
configure_kernel() {
	local base=$1 tree=$2 obj=$3 wsr=$4 fragment=$3/.wsr-fragment stamp
	local options=(CONFIG_WSR CONFIG_VIRTIO_BALLOON_WSR
		CONFIG_VIRTIO_BALLOON_WSR_CROSVM CONFIG_WSR_KUNIT_TEST)
	shift 4
	mkdir -p "$obj"
	{
		cat "$TOP/scripts/kernel.config"
		case $wsr in
		y | try) printf '%s=y\n' "${options[@]}" ;;
		n) printf '# CONFIG_WSR is not set\n' ;;
		esac
		[ $# -eq 0 ] || cat "$@"
	} >"$fragment"
	stamp=$(
		cat "$fragment"
		# What the options mean, and who compiles
		find "$tree" -name 'Kconfig*' -printf '%p %s %T@\n' | sort
		gcc --version
		printf '%s\n' "$tree"
	)
	stamp=$(printf '%s' "$stamp" | sha256sum)
	if [ -e "$obj/.config" ] && [ "$(cat "$obj/.wsr-config" 2>/dev/null)" = "$stamp" ]; then
		return
	fi
	rm -f "$obj/.wsr-config"
	KCONFIG_ALLCONFIG=$fragment logged "config-$(basename "$obj")" \
		"kernel $base: configuring" count_nothing \
		kbuild "$tree" "$obj" allnoconfig || return 1
	[ "$wsr" = try ] || options=()
	check_config "$base" "$fragment" "$obj/.config" ${options[@]+"${options[@]}"}
	printf '%s\n' "$stamp" >"$obj/.wsr-config"
}
