#!/bin/bash
# Strips executables and keeps their symbols in files of their own: symbols.sh FOLDER EXECUTABLE...
#
# FOLDER/NAME is the executable to ship, FOLDER/NAME.debug has its symbols and line tables. Each names the other (build id, .gnu_debuglink),
# so that gdb, perf and Rust's backtraces find the symbols beside the executable or below /usr/lib/debug.
#
# The profile does not do this: Cargo's `strip` throws symbols away, and `split-debuginfo` leaves the line tables in the executable.
set -euo pipefail
folder=$1
shift
mkdir -p "$folder"
for executable in "$@"; do
    name=$(basename "$executable")
    objcopy --only-keep-debug "$executable" "$folder/$name.debug"
    chmod -x "$folder/$name.debug"
    objcopy --strip-all "$executable" "$folder/$name"
    (cd "$folder" && objcopy --add-gnu-debuglink="$name.debug" "$name")
    # What was shipped must have lost its symbols, and the file beside it must have them.
    if [ -n "$(nm "$folder/$name" 2>/dev/null)" ]; then
        echo "$folder/$name still has symbols" >&2
        exit 1
    fi
    nm "$folder/$name.debug" >/dev/null
    du -h "$folder/$name" "$folder/$name.debug"
done
