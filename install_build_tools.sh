#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Installs what building and testing AppScope need, on Debian (12 or newer) and Ubuntu (24.04 or newer).
#
#   ./install_build_tools.sh            everything: build, tests, benchmarks
#   ./install_build_tools.sh --build    only what `make all` and `make run` need
#   ./install_build_tools.sh ... --cross ARCH    also what building for another architecture needs (aarch64)
#   ./install_build_tools.sh --list     prints the packages and which are missing; installs nothing
#
# Needs root or sudo, and only if something is missing. Packages that are there
# are left as they are. Servers that this script installs are neither started
# nor enabled: the tests run private copies of them. Programs that Debian doesn't
# have (tests/npm.packages) are unpacked below build/, for tests only.
#
# Exit status: 0 if everything is there in the end, 1 otherwise.
# shellcheck disable=SC2086,SC2015 # lists are split on purpose
set -eu
umask 022 # tests run what is fetched as other users, too

# What is built with. "a|b": the first that the distribution has.
BUILD_PACKAGES="make meson ninja-build gcc libc6-dev pkg-config git ca-certificates python3
  libcapstone-dev libevent-dev libssl-dev libyaml-dev libpcre2-dev libjansson-dev libmujs-dev libnghttp2-dev libzstd-dev
  libdw-dev libelf-dev zlib1g-dev liblzma-dev libbz2-dev libiberty-dev libncurses-dev libjs-d3 curl"

# What building for another architecture takes, with dev/cross/sysroot; static QEMU runs what was built.
CROSS_PACKAGES="fakeroot qemu-user-static"
# What testing it takes beyond: an emulated machine (dev/armvm), and compilers for what tests compile.
CROSS_TEST_PACKAGES="qemu-system-arm e2fsprogs cpio kmod golang-go"

# 32-bit programs. Debian's gcc-multilib and cross compilers exclude one another; what they stand for doesn't.
multilib=gcc-multilib gcc=gcc gxx=g++
case $(. /etc/os-release 2>/dev/null && echo "$ID-$VERSION_ID") in
    debian-12) multilib=gcc-12-multilib gcc=gcc-12 gxx=g++-12 ;;
esac

# What the tests and benchmarks run: a second C library, checkers, and the programs that are observed.
TEST_PACKAGES="musl-tools $multilib $gcc-aarch64-linux-gnu binutils-aarch64-linux-gnu mmdebstrap qemu-user-static libcmocka-dev python3-pyte python3-jsonschema python3-jsonpatch clang clang-tidy libclang-rt-dev
  liburing-dev libgnutls28-dev libnss3-dev libmbedtls-dev libwolfssl-dev wget g++ gdb elfutils strace valgrind jq util-linux iproute2 passwd
  bind9-dnsutils bind9-host dnsmasq-base gnutls-bin openssl python3-grpcio
  bash dash busybox-static findutils perl ed vim sqlite3 mawk tar gzip xz-utils
  nginx-light|nginx apache2 apache2-utils redis-server redis-tools haproxy postgresql
  openssh-server openssh-client nodejs default-jdk-headless golang-go wrk rustc
  bubblewrap runc sudo systemd dbus nghttp2-client nghttp2-server tshark libnss3-tools python3-pycurl python3-requests
  prometheus python3-prometheus-client python3-yaml victoria-metrics prometheus-pushgateway rsyslog
  chromium fonts-dejavu-core"

# Comes with Node.js where that is not Debian's own.
command -v npm >/dev/null 2>&1 || TEST_PACKAGES="$TEST_PACKAGES npm"

# Servers among them, by the name of their service.
SERVICES="nginx apache2 redis-server haproxy postgresql ssh prometheus victoria-metrics prometheus-pushgateway rsyslog"

die()
{
    echo "install_build_tools.sh: $*" >&2
    exit 1
}

# Names of all installed packages, one per line, with a newline before the first and after the last.
installed=
scan()
{
    installed="
$(dpkg-query -W -f='${Package} ${db:Status-Status}\n' | sed -n 's/ installed$//p')
"
}

# Prints the entries among $* of which no alternative is installed.
missing()
{
    for entry in "$@"; do
        found=
        for name in $(echo "$entry" | tr '|' ' '); do
            case $installed in
                *"
$name
"*) found=1 ;;
            esac
        done
        [ -n "$found" ] || echo "$entry"
    done
}

# Rows of tests/npm.packages whose program isn't there: name, package, checksum.
programs=$(dirname "$0")/build/npm
missing_programs()
{
    sed '/^#/d' "$(dirname "$0")/tests/npm.packages" | while read -r name package sum; do
        [ "$(cat "$programs/$name/.sha512" 2>/dev/null)" = "$sum" ] || echo "$name $package $sum"
    done
}

# Unpacks them. Nothing that a package says is to be run is run.
fetch_programs()
{
    missing_programs | while read -r name package sum; do
        echo "install_build_tools.sh: fetching $package" >&2
        rm -rf "${programs:?}/$name" "$programs/new"
        mkdir -p "$programs/new"
        (
            cd "$programs/new" || exit 1
            npm pack --silent --ignore-scripts "$package" >/dev/null || exit 1
            echo "$sum  $(ls ./*.tgz)" | sha512sum --check --status || exit 2
            tar xzf ./*.tgz --strip-components=1 --no-same-owner
            rm ./*.tgz
            echo "$sum" >.sha512
        ) || {
            [ $? = 2 ] && die "$package isn't what it was (SHA-512), or came damaged" || die "can't fetch $package by npm"
        }
        mkdir -p "$(dirname "$programs/$name")"
        mv "$programs/new" "$programs/$name"
    done
}

what=all
mode=install
cross=
while [ $# -gt 0 ]; do
    case $1 in
        --build) what=build ;;
        --list) mode=list ;;
        --cross)
            shift
            cross=${1-}
            [ "$cross" = aarch64 ] || die "--cross '$cross': aarch64 is what can be built for"
            ;;
        -h | --help)
            sed -n '4,16s/^# \{0,1\}//p' "$0"
            exit 0
            ;;
        *) die "unknown argument '$1' (see --help)" ;;
    esac
    shift
done

packages=$BUILD_PACKAGES
[ "$what" = build ] || packages="$packages $TEST_PACKAGES"
[ -z "$cross" ] || packages="$packages $gcc-$cross-linux-gnu $CROSS_PACKAGES"
[ -z "$cross" ] || [ "$what" = build ] || packages="$packages $gxx-$cross-linux-gnu $CROSS_TEST_PACKAGES"

command -v dpkg-query >/dev/null 2>&1 && command -v apt-get >/dev/null 2>&1 ||
    die "this is neither Debian nor Ubuntu: install these by hand (names as in Debian 12):" $packages

scan
lacking=$(missing $packages)

if [ "$mode" = list ]; then
    for entry in $packages; do
        if [ -n "$(missing "$entry")" ]; then
            echo "$entry missing"
        else
            echo "$entry installed"
        fi
    done
    [ "$what" = build ] || missing_programs | sed 's/^[^ ]* \([^ ]*\) .*/\1 missing (npm)/'
    exit 0
fi
if [ -z "$lacking" ]; then
    [ "$what" = build ] || fetch_programs
    exit 0
fi

if [ "$(id -u)" = 0 ]; then
    as_root=
elif command -v sudo >/dev/null 2>&1; then
    as_root=sudo
else
    die "missing:" $lacking "- run this as root, or install sudo"
fi

echo "install_build_tools.sh: installing" $lacking >&2

apt()
{
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 "$@"
}

log=$(mktemp)
policy=/usr/sbin/policy-rc.d
aside=
ours=

# While packages are being configured, invoke-rc.d asks policy-rc.d whether it may start a service: no.
restore()
{
    rm -f "$log"
    [ -z "$ours" ] || $as_root rm -f "$policy"
    [ -z "$aside" ] || $as_root mv -f "$aside" "$policy"
    ours=
    aside=
}
trap restore EXIT
trap 'exit 1' HUP INT TERM

# A policy that was there is kept beside it and put back. One left by a run that was killed is ours already.
if [ -e "$policy" ] && ! grep -q 'install_build_tools' "$policy"; then
    $as_root mv -f "$policy" "$policy.before-install_build_tools"
    aside=$policy.before-install_build_tools
elif [ -e "$policy.before-install_build_tools" ]; then
    aside=$policy.before-install_build_tools
fi
printf '#!/bin/sh\n# install_build_tools.sh: nothing is started\nexit 101\n' | $as_root tee "$policy" >/dev/null
ours=1
$as_root chmod 755 "$policy"

# Slim images lack the directories in which some packages place links.
$as_root mkdir -p /usr/share/man/man1 /usr/share/man/man7

apt update -q >"$log" 2>&1 || {
    tail -n 20 "$log" >&2
    die "apt-get update failed (above): is the network there, and are the sources in /etc/apt right?"
}

# Of alternatives take the first that can be installed.
wanted=
for entry in $lacking; do
    choice=
    for name in $(echo "$entry" | tr '|' ' '); do
        if apt-cache show "$name" >/dev/null 2>&1; then
            choice=$name
            break
        fi
    done
    [ -n "$choice" ] || die "no package '$entry' in the configured sources (on Ubuntu, enable universe)"
    wanted="$wanted $choice"
done

for name in $SERVICES; do
    eval "had_$(echo "$name" | tr '-' '_')=\$(test -e /lib/systemd/system/$name.service && echo 1 || true)"
done

apt install -q -y --no-install-recommends $wanted >"$log" 2>&1 || {
    tail -n 40 "$log" >&2
    die "apt-get install failed (above)"
}

# Nor at the next boot, unless they were there before.
if command -v systemctl >/dev/null 2>&1; then
    for name in $SERVICES; do
        eval "had=\$had_$(echo "$name" | tr '-' '_')"
        if [ -z "$had" ] && [ -e "/lib/systemd/system/$name.service" ]; then
            $as_root systemctl disable "$name.service" >/dev/null 2>&1 || true
        fi
    done
fi

scan
lacking=$(missing $packages)
[ -z "$lacking" ] || die "still missing after installation:" $lacking
[ "$what" = build ] || fetch_programs
