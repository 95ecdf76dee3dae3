#!/usr/bin/env bash
# Makes .venv on a machine that has nothing but Python >= 3.11: says what it installs, does nothing twice.
# TORCH_INDEX, when set, is where torch comes from (a CPU-only index spares gigabytes of CUDA); PYTHON picks an interpreter.
set -euo pipefail
cd "$(dirname "$0")"
PYTHON=${PYTHON:-python3}
say() { printf '\033[1m%s\033[0m\n' "$*"; }
die() { printf 'setup: %s\n' "$*" >&2; exit 1; }

command -v "$PYTHON" >/dev/null || die "no $PYTHON found; install Python 3.11 or newer"
"$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    die "$("$PYTHON" --version) found, Python 3.11 or newer is needed; point PYTHON at one"

# What the wheels lack: manim builds pycairo and manimpango against these, and Debian splits venv from Python.
system_packages() {
    case "$(uname -s)" in
    Darwin)
        command -v brew >/dev/null && brew list pango >/dev/null 2>&1 ||
            die "pango and pkg-config are missing; install them with: brew install pango pkg-config"
        return ;;
    esac
    command -v dpkg-query >/dev/null || {
        pkg-config --exists pangocairo 2>/dev/null ||
            die "pango's headers are missing and this is no Debian or Ubuntu; install pango (with headers), pkg-config and gcc"
        return
    }
    local wanted=(python3-venv python3-dev gcc pkg-config libpango1.0-dev) missing=() p
    for p in "${wanted[@]}"; do
        dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'install ok installed' || missing+=("$p")
    done
    # a Python of one's own (pyenv, deadsnakes) brings its own venv module and headers
    if "$PYTHON" -c 'import ensurepip, venv' 2>/dev/null; then
        missing=("${missing[@]/python3-venv/}")
    fi
    missing=(${missing[@]+"${missing[@]}"})
    local line=() m
    for m in ${missing[@]+"${missing[@]}"}; do [ -n "$m" ] && line+=("$m"); done
    [ ${#line[@]} -eq 0 ] && return
    local sudo=()
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null || die "run as root, or install sudo, for: apt-get install -y ${line[*]}"
        sudo=(sudo)
    fi
    say "installing system packages: ${line[*]}"
    ${sudo[@]+"${sudo[@]}"} apt-get update -qq
    ${sudo[@]+"${sudo[@]}"} env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${line[@]}" >/dev/null ||
        die "apt-get could not install ${line[*]}; install them by hand and run again"
}

stamp=.venv/.made-from-$(cat pyproject.toml constraints.txt setup.sh | cksum | cut -d' ' -f1)
[ -e "$stamp" ] && exit 0
system_packages
say "making .venv (about 2.5 GB, a few minutes)"
[ -x .venv/bin/python ] || "$PYTHON" -m venv .venv
pip() { .venv/bin/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt "$@"; }
torch=$(grep '^torch==' constraints.txt)
pip ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} "$torch"
pip --editable '.[dev]'
rm -f .venv/.made-from-*
touch "$stamp"
