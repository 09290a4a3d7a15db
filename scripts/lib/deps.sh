# shellcheck shell=bash
# What the scripts need from the machine: a Rust toolchain, and Debian packages, which are installed where that is
# possible and named where it is not. Sourced, not run.

# nft and ip live in sbin, which an ordinary user's PATH lacks on Debian.
PATH="$PATH:/usr/sbin:/sbin"

say() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; }
step() { printf '\n==> %s\n' "$*" >&2; }
die() {
  say "$*"
  exit 2
}

# run_as_root COMMAND…: as it is for root, else through sudo. Fails where neither will do.
run_as_root() {
  if [ "$(id -u)" -eq 0 ]; then
    "$@"
  elif command -v sudo >/dev/null 2>&1 && { sudo -n true 2>/dev/null || [ -t 0 ]; }; then
    sudo "$@"
  else
    return 126
  fi
}

# have WHAT: a command, `lib:NAME` for a library that pkg-config knows, or `py:NAME` for a module of Python.
have() {
  case "$1" in
    py:*) python3 -c "import ${1#py:}" 2>/dev/null ;;
    lib:*) command -v pkg-config >/dev/null 2>&1 && pkg-config --exists "${1#lib:}" ;;
    *) command -v "$1" >/dev/null 2>&1 ;;
  esac
}

# need WHAT=PACKAGE…: installs the packages of what is missing.
need() {
  local pair missing=()
  for pair in "$@"; do
    have "${pair%%=*}" || missing+=("${pair#*=}")
  done
  [ "${#missing[@]}" -eq 0 ] && return 0
  mapfile -t missing < <(printf '%s\n' "${missing[@]}" | sort -u)
  if command -v apt-get >/dev/null 2>&1; then
    say "installing ${missing[*]}"
    if run_as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}" >&2 ||
      { run_as_root apt-get update >&2 &&
        run_as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}" >&2; }; then
      return 0
    fi
  fi
  say "missing, and not to be installed from here: ${missing[*]}"
  say "as root: apt-get update && apt-get install ${missing[*]}"
  return 1
}

# What the build needs: a linker, Z3 and, for libbpf, libelf and zlib with their headers.
need_build() {
  [ -d "$HOME/.cargo/bin" ] && PATH="$HOME/.cargo/bin:$PATH"
  have cargo || die "no Rust toolchain: install one (rustup, stable, 1.88 or later) and run this again"
  need cc=gcc cc=libc6-dev make=make pkg-config=pkg-config lib:z3=libz3-dev lib:libelf=libelf-dev lib:zlib=zlib1g-dev || exit 2
}

# What the lab needs besides.
need_lab() {
  need nft=nftables ip=iproute2 ping=iputils-ping bpftool=bpftool shellcheck=shellcheck \
    clang-14=clang-14 llvm-strip-14=llvm-14 lib:libbpf=libbpf-dev
}

# What reads P4Runtime's messages as its own project does: Python with the official package, apart from the system's.
need_p4runtime() {
  local where="${CARGO_TARGET_DIR:-target}/p4runtime" wanted=backends/tests/p4/requirements.txt
  cmp -s "$wanted" "$where/requirements.txt" && return 0
  need python3=python3 py:ensurepip=python3-venv || return 1
  say "installing p4runtime into $where"
  rm -rf "$where"
  if python3 -m venv "$where" && "$where/bin/pip" install --quiet --requirement "$wanted" >&2; then
    cp "$wanted" "$where/"
  else
    say "cannot install what $wanted names"
    return 1
  fi
}

# lab_privilege: prints nothing and succeeds if network namespaces can be made, else says what is missing.
lab_privilege() {
  local probe="pw-probe-$$"
  if ! have ip || ! have nft; then
    say "the lab needs nft and ip, and they are not here"
    return 1
  fi
  if [ "$(id -u)" -ne 0 ] && ! run_as_root true 2>/dev/null; then
    say "the lab makes network namespaces and needs root (CAP_NET_ADMIN and CAP_SYS_ADMIN): run this as root, or let this user use sudo"
    return 1
  fi
  if ! run_as_root ip netns add "$probe" 2>/dev/null; then
    say "root here may not make network namespaces (a container without CAP_SYS_ADMIN or CAP_NET_ADMIN?)"
    return 1
  fi
  if ! run_as_root ip netns exec "$probe" nft list tables >/dev/null 2>&1; then
    run_as_root ip netns del "$probe"
    say "nft does not work in a network namespace of this machine (no nf_tables in the kernel?)"
    return 1
  fi
  run_as_root ip netns del "$probe"
}
