#!/bin/bash
# `cargo build`, which says how much there is to build, how long that takes, what comes next and what to do meanwhile.
#
#   scripts/build.sh ARGUMENTS_OF_CARGO_BUILD...
#
# * It says nothing if nothing has to be built.
# * Whatever else cargo says, errors above all, is passed on as it is, and so is its exit status.
# * On a terminal one line is drawn again and again; else a line is written twice a minute.
# * The time left is what scripts/build_weights.txt remembers of another build, at the pace of this one. What was told only falls,
#   unless it turns out wrong by half.
set -euo pipefail

cargo=${CARGO:-cargo}
# Older ones do not know the time.
[ "${BASH_VERSINFO[0]}" -ge 5 ] || exec "$cargo" build "$@"
cores=$(nproc)

# Milliseconds of one thread for a crate, for any other crate (-), and how many per cent a release build takes of that (%). C++ is the
# same in both. Crates that wait for one another at the end have `last` behind them.
declare -A weight=() last=()
percent=100 other=300
case " $* " in *' --release '*) release=true ;; *) release=false ;; esac
while read -r name value mark; do
    case $name in
        %) ! $release || percent=$value ;;
        -) other=$((value * percent / 100)) ;;
        '#'*) ;;
        *)
            [ "$mark" = c++ ] || value=$((value * percent / 100))
            weight[$name]=$value
            [ "$mark" != last ] || last[$name]=$value
            ;;
    esac
done <"$(dirname "$0")/build_weights.txt"

# How often each crate is built, with other features each time, and whose it is.
declare -A left=() ours=()
count() {
    local selected=() skip=false argument line
    for argument; do
        if $skip; then skip=false; continue; fi
        case $argument in
            --release) ;;
            --profile | --bin) skip=true ;;
            *) selected+=("$argument") ;;
        esac
    done
    while read -r line; do
        local name=${line%% *}
        left[$name]=$((${left[$name]:-0} + 1))
        case $line in *' (/'*) ours[$name]=yes ;; esac
    done < <("$cargo" tree -e normal,build --prefix none -f '{p}|{f}' "${selected[@]}" 2>/dev/null | sed 's/ (\*)$//' | sort -u)
}

# What the build has before it and behind it, in milliseconds of one thread; what goes on, since when.
total=0 done=0 crates=0 built=0 began=0 shown=none told=0 now=0 long=false slower=''
declare -A running=()

clock() { now=$((${EPOCHREALTIME/[.,]/} / 1000)); }

# $1: a crate of which something is built.
begins() {
    local name
    if [ $began = 0 ]; then
        began=$now
        for name in "${!left[@]}"; do
            total=$((total + left[$name] * ${weight[$name]:-$other}))
            crates=$((crates + left[$name]))
        done
    fi
    running[$1]=$now
}

# $1: a crate that is there. Those that were there before come first.
ends() {
    [ "${left[$1]:-0}" -gt 0 ] || return 0
    left[$1]=$((left[$1] - 1))
    unset "running[$1]" "last[$1]"
    if [ $began != 0 ]; then
        done=$((done + ${weight[$1]:-$other}))
        built=$((built + 1))
    fi
}

# Sets `remaining`: milliseconds until the end.
estimate() {
    local name worked=$done wait=0 took threads=$cores
    # Crates wait for each other: more threads than these are never busy all the time.
    [ "$threads" -le 5 ] || threads=5
    for name in "${!running[@]}"; do
        took=$((now - running[$name]))
        local most=$((${weight[$name]:-$other} * 9 / 10))
        worked=$((worked + (took < most ? took : most)))
    done
    for name in "${!last[@]}"; do
        [ -z "${left[$name]:-}" ] || wait=$((wait + last[$name]))
    done
    # The weights are believed like a tenth of the build.
    local known=$((total / 10 + 1))
    local pace=$((((now - began) * threads + known) * 1000 / (worked + known)))
    local rest=$(((total - worked) / threads))
    remaining=$(((rest > wait ? rest : wait) * pace / 1000))
}

# $1: milliseconds, in words; rounded up.
words() {
    local seconds=$((($1 + 999) / 1000))
    if [ $seconds -gt 100 ]; then echo "$(((seconds + 59) / 60)) min"; else echo "$(((seconds + 9) / 10 * 10)) s"; fi
}

terminal=false
if [ -t 2 ]; then
    terminal=true
    export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-always}
fi
columns=$(tput cols 2>/dev/null || echo 80)

clear_line() { ! $terminal || printf '\r\033[K' >&2; }

tell() {
    [ $began != 0 ] || return 0
    local remaining line name now_building=() next='linking'
    estimate
    if [ "$shown" = none ]; then
        # What was there already has been heard of by now.
        [ $((now - began)) -gt 1000 ] || return 0
        shown=$remaining
        if [ "$shown" -gt 20000 ]; then
            long=true
            clear_line
            echo "building $what: $crates crates, about $(words "$shown") on this machine's $cores cores; after this only what has changed is built" >&2
            echo "$meanwhile" >&2
        fi
    elif [ "$remaining" -lt "$shown" ]; then
        shown=$remaining slower=''
    elif [ "$remaining" -gt $((shown * 3 / 2 + 15000)) ]; then
        shown=$remaining
        slower=', slower than thought'
    fi
    $terminal || [ $((now - told)) -ge 30000 ] || return 0
    told=$now
    for name in "${!ours[@]}"; do [ "${left[$name]:-0}" = 0 ] || [ -n "${running[$name]:-}" ] || next="l2-prover's own crates, linking"; done
    # The two that began last.
    mapfile -t now_building < <(for name in "${!running[@]}"; do echo "${running[$name]} $name"; done | sort -rn | sed -n '1,2s/.* //p')
    line="$built of $crates crates, about $(words "$shown") left$slower${now_building[*]:+; now ${now_building[*]}}; next $next"
    if $terminal; then printf '\r\033[K%s' "${line:0:columns-1}" >&2; else echo "$line" >&2; fi
}

# Reads what cargo says: messages in JSON of what is there, and words.
follow() {
    local line='' part plain name word rest
    while true; do
        if IFS= read -r -t 1 part; then
            line+=$part
        elif [ $? -gt 128 ]; then
            line+=$part
            clock
            tell
            continue
        else
            break
        fi
        clock
        case $line in
            '{"reason":"compiler-artifact"'*)
                case $line in
                    *'"kind":["custom-build"]'*) ;;
                    *)
                        name=${line#*'"package_id":"'}
                        name=${name%%'"'*}
                        case ${name##*#} in
                            *@*) name=${name##*#} name=${name%@*} ;;
                            *) name=${name%#*} name=${name##*/} ;;
                        esac
                        ends "$name"
                        ;;
                esac
                ;;
            '{"reason":'*) ;;
            *)
                plain=$line
                while [[ $plain == *$'\e['*m* ]]; do plain=${plain%%$'\e['*}${plain#*$'\e['*m}; done
                read -r word rest <<<"$plain"
                case $word in
                    Compiling) begins "${rest%% *}" ;;
                    Downloaded | Downloading | Updating | Locking | Finished)
                        ! $terminal || [ $began != 0 ] || printf '\r\033[K%s' "${plain:0:columns-1}" >&2
                        ;;
                    *)
                        clear_line
                        printf '%s\n' "$line" >&2
                        ;;
                esac
                ;;
        esac
        line=
        # Not for each of hundreds that are there already.
        [ $((now - told)) -lt 1000 ] || tell
    done
    clear_line
    if $long && [ "${left[l2]:-1}" = 0 ]; then
        echo "built in $(((now - began) / 60000)) min $(((now - began) / 1000 % 60)) s" >&2
    fi
}

what=l2-prover
meanwhile='Meanwhile: README.md says what this is, and docs/dev-chain.md what to do with it once it runs.'
case " $* " in
    *l2-prover-risc0*)
        what='l2-prover-risc0, with the C++ of RISC Zero'
        meanwhile+=' make dev-exec shows it without a zkVM, in minutes.'
        ;;
esac

# ORDER: cargo would wait for the tree if both ran, and the counts have to be there first.
count "$@"
trap 'echo >&2; exit 130' INT
"$cargo" build --message-format=json-render-diagnostics "$@" 2>&1 | follow
