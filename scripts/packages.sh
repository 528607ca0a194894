#!/bin/sh
# The system packages spanbox is built with: installs what is missing.   packages.sh build|test|tidy|fuzz
#
# On Debian and its kin a run with everything in place asks dpkg only and touches neither apt nor the network.
# Elsewhere it looks for the headers, and when one is missing prints what to install and stops.
set -eu

packages='liblmdb-dev libxxhash-dev libabsl-dev libre2-dev libsimdjson-dev libzstd-dev'
headers='lmdb.h xxhash.h absl/container/flat_hash_map.h re2/re2.h simdjson.h zstd.h'
case $1 in
  build) ;;
  test) packages="$packages libgtest-dev ccache prometheus chromium" headers="$headers gtest/gtest.h" ;;
  tidy) packages="$packages libgtest-dev clang-tidy" headers="$headers gtest/gtest.h" ;;
  fuzz) packages="$packages libgtest-dev clang libclang-rt-dev" headers="$headers gtest/gtest.h" ;;
esac

python=.venv/bin/python
if ! "$python" -c 'import pathlib, sysconfig; assert pathlib.Path(sysconfig.get_path("include"), "Python.h").exists()' \
    2>/dev/null; then
  if [ "$("$python" -c 'import sys; print(sys.base_prefix)')" != /usr ]; then
    echo "The Python in .venv has no C headers. Remove .venv and give another one:  make PYTHON=/path/to/python3 ..." >&2
    exit 1
  fi
  packages="$packages $("$python" -c 'import sys; print("python3.%d-dev" % sys.version_info[1])')"
fi

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
  missing=$(for header in $headers; do
    echo "#include <$header>" | ${CXX:-c++} -std=c++20 -x c++ -E - >/dev/null 2>&1 || echo "  $header"
  done)
  [ -n "$missing" ] || exit 0
  printf 'This is not a Debian, and these headers are missing:\n%s\n' "$missing" >&2
  echo "Install what your system calls: $packages; then run this again." >&2
  exit 1
fi

missing=
for package in $packages; do
  [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" = 0 ]; then
  as_root=
elif ! command -v sudo >/dev/null; then
  printf 'These Debian packages are missing, and there is no sudo to install them. As root:\n' >&2
  printf '  apt-get install --no-install-recommends%s\n' "$missing" >&2
  exit 1
elif [ -t 0 ]; then
  as_root=sudo
else
  as_root='sudo -n'  # nobody there to type a password
fi
install() {
  $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $missing </dev/null
}
echo "Installing Debian packages:$missing"
# The package lists on the machine are tried first; when they are absent or stale, they are fetched.
if ! log=$(install 2>&1); then
  if ! { $as_root apt-get update -qq </dev/null && install >/dev/null; }; then
    printf '%s\nCould not install:%s\n' "$log" "$missing" >&2
    exit 1
  fi
fi
