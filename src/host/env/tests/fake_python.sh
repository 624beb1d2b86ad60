#!/bin/sh
# Stands for python: `-m venv PATH` and `-m pip install ... -r FILE`. The library puts an `-I`
# before these, a person who runs the command of an error does not.
base=@BASE@
by_hand=1
if [ "$1" = -I ]; then by_hand= && shift; fi
echo "$2" >>"$base/calls"

case "$2" in
venv)
    # A test that wants this to take a while makes a pipe, and writes to it when it is enough.
    if [ -p "$base/gate" ]; then read -r _ <"$base/gate"; fi
    if [ -e "$base/fail-venv" ]; then echo "ensurepip is not available"; exit 1; fi
    mkdir -p "$3/bin" "$3/lib/python3.11/site-packages/pip"
    ln -s "$base/bin/python3.11" "$3/bin/python"
    printf 'home = %s/bin\nversion = 3.11.7\n' "$base" >"$3/pyvenv.cfg"
    ;;
ensurepip)
    ;;
pip)
    if [ -e "$base/full-disk" ]; then
        echo "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device"
        exit 1
    fi
    for lock in "$@"; do :; done
    if [ -e "$base/fail-pip" ]; then
        for n in 01 02 03 04 05 06 07 08 09 10 11 12 13 14 15 16 17 18 19 20 21; do
            echo "line $n"
        done
        echo "THESE PACKAGES DO NOT MATCH THE HASHES" >&2
        exit 3
    fi
    # Another open file description: it cannot have the lock while the caller's is held.
    if [ -z "$by_hand" ] && flock -n "$(dirname "$lock").lock" true; then echo "not locked"; exit 4; fi
    dspy=$(sed -n 's/^dspy==\([0-9.]*\).*/\1/p' "$lock")
    info=$(dirname "$lock")/lib/python3.11/site-packages/dspy-$dspy.dist-info
    rm -rf "$(dirname "$lock")"/lib/python3.11/site-packages/dspy-*
    mkdir -p "$info"
    echo "Name: dspy" >"$info/METADATA"
    echo "__editable__.dspy.pth,," >"$info/RECORD"
    echo "Successfully installed dspy-$dspy"
    ;;
*)
    exit 2
    ;;
esac
