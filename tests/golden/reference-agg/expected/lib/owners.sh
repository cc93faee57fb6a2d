# shellcheck shell=bash
# Whose socket, whose process: read from /proc. Sourced by lib/dync.sh.

dync_sockets=() # of dync_listening
dync_left=() dync_leaders=() # of dync_find_left, dync_find_leaders
dync_mark=''    # of this launch

# ---- sockets -----------------------------------------------------------------------------------------------------

# Put in dync_sockets the "INODE UID" of each socket that listens where a connection to HOST arrives: at that very
# address, or else at all. A name may mean several addresses: then all count. Status 1: nobody does; 3: nobody can tell.
dync_listening() { # HOST PORT
    local port exact=' ' rank best=9 address uid inode found
    dync_sockets=()
    [[ -r /proc/net/tcp ]] || return 3
    printf -v port %04X "$2"
    dync_proc_address "$1" && exact=$REPLY
    found=$(grep -hsE "^ *[0-9]+: [0-9A-F]+:$port [0-9A-F]+:0000 0A " /proc/net/tcp /proc/net/tcp6)
    while read -r _ address _ _ _ _ _ uid _ inode _; do
        case ${address%:*} in
        '') continue ;;
        "$exact" | "0000000000000000FFFF0000$exact") rank=1 ;;
        00000000) ((rank = ${#exact} == 32 ? 9 : 2)) ;;
        00000000000000000000000000000000) rank=3 ;;
        *) rank=9 ;;
        esac
        [[ $exact != ' ' ]] || rank=1
        ((rank < 9 && rank <= best)) || continue
        ((rank == best)) || dync_sockets=()
        best=$rank
        dync_sockets+=("$inode $uid")
    done <<<"$found"
    ((${#dync_sockets[@]}))
}

dync_proc_address() { # HOST: put in REPLY how /proc/net/tcp writes it, on a little-endian machine; false for a name
    local host=${1%\%*} head tail group words=() word byte
    if [[ $host =~ ^([0-9]{1,3})\.([0-9]{1,3})\.([0-9]{1,3})\.([0-9]{1,3})$ ]]; then
        printf -v REPLY '%02X%02X%02X%02X' "$((10#${BASH_REMATCH[4]}))" "$((10#${BASH_REMATCH[3]}))" \
            "$((10#${BASH_REMATCH[2]}))" "$((10#${BASH_REMATCH[1]}))"
        return
    fi
    [[ $host == *:* && $host =~ ^[0-9A-Fa-f:]+$ ]] || return 1
    head=${host%%::*} tail=''
    [[ $host != *::* ]] || tail=${host##*::}
    IFS=: read -r -a words <<<"$head"
    IFS=: read -r -a group <<<"$tail"
    while ((${#words[@]} + ${#group[@]} < 8)); do words+=(0); done
    words+=("${group[@]}")
    printf -v word %04X "${words[@]/#/0x}"
    REPLY=''
    for byte in 0 8 16 24; do
        REPLY+=${word:byte+6:2}${word:byte+4:2}${word:byte+2:2}${word:byte:2}
    done
}

# Put in REPLY the inodes of the sockets that listen where a connection to HOST arrives, if processes of CLAIM hold them
# all. Status 1: nobody listens; 2: somebody else does, and REPLY is one "INODE UID" of theirs; 3: nobody can tell.
# CLAIM: `session PID NAME` (a process of launch.sh, by its session or its marks), `launch` (any process of this launch),
# `group PID` (its unit's), `unit UNIT`, `account` (this one's).
dync_whose() { # HOST PORT CLAIM...
    local status=0 entry others
    dync_listening "$1" "$2" || status=$?
    REPLY=''
    ((!status)) || return "$status"
    for entry in "${dync_sockets[@]}"; do REPLY+=${entry% *}' '; done
    mapfile -t others < <(dync_not_held "${@:3}")
    [[ $3 != session ]] || ((!${#others[@]})) || mapfile -t others < <(
        dync_sockets=("${others[@]}")
        dync_not_held marked "$5"
    )
    ((${#others[@]})) || return 0
    # It may have been closed while it was looked for.
    dync_listening "$1" "$2"
    for entry in "${dync_sockets[@]}"; do
        [[ $entry != "${others[0]}" ]] || {
            REPLY=$entry
            return 2
        }
    done
    return 1
}

dync_not_held() { # CLAIM...: print those of dync_sockets that no process of CLAIM holds
    local entry names=() held=' ' pids=()
    if [[ $1 == account ]]; then
        for entry in "${dync_sockets[@]}"; do
            [[ ${entry#* } == "$EUID" ]] || printf '%s\n' "$entry"
        done
        return
    fi
    mapfile -t pids < <("dync_pids_of_$1" "${@:2}")
    for entry in "${dync_sockets[@]}"; do names+=(-o -lname "socket:\\[${entry% *}\\]"); done
    ((!${#pids[@]})) ||
        held+=$(find "${pids[@]/%//fd}" -maxdepth 1 \( "${names[@]:1}" \) -printf '%l ' 2>/dev/null)' '
    for entry in "${dync_sockets[@]}"; do
        [[ $held == *" socket:[${entry% *}] "* ]] || printf '%s\n' "$entry"
    done
}

# Each prints folders of /proc, one a line. What a process says of itself counts only where it is this account's own:
# anybody can name a mark or a unit alike.

dync_pids_of_session() { # PID NAME: the session that launch.sh made for a process
    local file stat
    for file in /proc/[0-9]*/stat; do
        { IFS= read -r -d '' stat <"$file"; } 2>/dev/null
        [[ ! ${stat##*) } =~ ^.\ [0-9]+\ [0-9]+\ $1\  ]] || printf '%s\n' "${file%/stat}"
    done
}

dync_pids_of_marked() { # [NAME]: what carries this launch's mark, and the name of one process
    local file
    grep -lzxsF -- "DYNC_LAUNCH=$dync_mark" /proc/[0-9]*/environ | while IFS= read -r file; do
        [[ -O ${file%/environ} ]] || continue
        [[ -z ${1-} ]] || grep -qzxsF -- "DYNC_PROCESS=$1" "$file" || continue
        printf '%s\n' "${file%/environ}"
    done
}

dync_pids_of_launch() { # by its sessions too: redis-server writes over its environment
    local pid
    dync_find_left
    for pid in "${dync_left[@]}"; do printf '/proc/%s\n' "$pid"; done
}

dync_pids_of_group() { # PID: what systemd, whichever hierarchy it uses, has put beside a process
    local line unit=''
    while IFS= read -r line; do
        [[ $line == 0::* || $line == *:name=systemd:* ]] || continue
        [[ -n $unit && $line == *:/ ]] || unit=$line
    done <"/proc/$1/cgroup"
    dync_own grep -lsxF -- "$unit"
}

dync_pids_of_unit() { # UNIT
    dync_own grep -lsE -- "/${1//./\\.}(/|\$)"
}

dync_own() { # GREP...: of this account's processes, those in whose cgroup it finds something
    local file
    "$@" /proc/[0-9]*/cgroup | while IFS= read -r file; do
        [[ ! -O ${file%/cgroup} ]] || printf '%s\n' "${file%/cgroup}"
    done
}

dync_still() { # HOST PORT INODES: true if the same sockets listen there as were seen before the connection was made
    local entry
    dync_listening "$1" "$2" || return 1
    for entry in "${dync_sockets[@]}"; do
        [[ " $3" == *" ${entry% *} "* ]] || return 1
    done
}

dync_holder() { # INODE UID: put in REPLY who holds a socket, as far as this account may see
    local account pid='' name=''
    account=$(id -nu "$2" 2>/dev/null) || account="uid $2"
    pid=$(find /proc/[0-9]*/fd -maxdepth 1 -lname "socket:\\[$1\\]" -printf '%h\n' -quit 2>/dev/null)
    pid=${pid#/proc/} pid=${pid%/fd}
    if [[ -n $pid ]]; then
        { IFS= read -r name <"/proc/$pid/comm"; } 2>/dev/null
        name=${name//[^[:print:]]/?} # a process names itself as it likes
        REPLY="pid $pid ($name) of $account"
    else
        REPLY="a process of $account"
    fi
}

# ---- processes ---------------------------------------------------------------------------------------------------

# Put in REPLY the mark of what is launched from a folder: the PID namespace, since a container may have another folder
# of that name, and its place; one line, as grep needs it.
dync_mark_of() { # FOLDER
    REPLY=$(readlink /proc/self/ns/pid)
    REPLY=${REPLY//[^0-9]/}:${1//$'\n'/%0A}
}

# Note a process that was started, so that its session is found even if it writes over its environment.
dync_note_started() { # NAME PID
    dync_started_at "$2" || return 0
    printf '%s %s %s\n' "$1" "$2" "$REPLY" >>run/started
}

dync_started_at() { # PID: put in REPLY the clock tick of its start; false where it has gone
    local stat fields
    { IFS= read -r -d '' stat <"/proc/$1/stat"; } 2>/dev/null
    [[ -n ${stat-} ]] || return 1
    read -r -a fields <<<"${stat##*) }"
    [[ ${fields[0]} != [ZX] ]] || return 1
    REPLY=${fields[19]}
}

# Forget what was started once all of it has gone: numbers of sessions are given again. The folder may have been moved, or
# built again, since.
dync_forget_started() {
    local file mark
    for file in run/started "$PWD/run/started"; do
        [[ -f $file && ! -L $file && -O $file ]] || continue
        mark=$(head -c 65536 -- "$file" | sed -n 2p)
        [[ $mark != "$dync_mark" ]] || rm -f -- "$file"
    done
}

# Put in dync_left the pids of this bundle's processes that run, by their mark or by the sessions in run/started.
dync_find_left() {
    local file pid name at boot='' mark='' sessions=' ' stat fields
    dync_left=()
    if [[ -f run/started && ! -L run/started && -O run/started ]]; then
        {
            IFS= read -r boot
            IFS= read -r mark # of another bundle, where run/ is a link to its
            while read -r name pid at; do
                # Another start: the number was given away, so nothing is left of that session.
                dync_started_at "$pid" && [[ $REPLY != "$at" ]] || sessions+="$pid "
            done
        } < <(head -c 1048576 run/started)
        [[ $boot == "$(</proc/sys/kernel/random/boot_id)" && $mark == "$dync_mark" ]] || sessions=' '
    fi
    for file in /proc/[0-9]*/stat; do
        [[ $sessions != ' ' && -O $file ]] || continue
        { IFS= read -r -d '' stat <"$file"; } 2>/dev/null
        read -r -a fields <<<"${stat##*) }"
        [[ ${fields[0]-} == [ZX] || $sessions != *" ${fields[3]-none} "* ]] || dync_left+=("${stat%% *}")
    done
    while IFS= read -r file; do
        pid=${file#/proc/}
        [[ " ${dync_left[*]} $$ $BASHPID " == *" $pid "* ]] || ! dync_started_at "$pid" || dync_left+=("$pid")
    done < <(dync_pids_of_marked '')
}

dync_said_of() { # PID: put in REPLY what it is, for a person
    local name='' account
    { IFS= read -r name <"/proc/$1/comm"; } 2>/dev/null
    name=${name//[^[:print:]]/?}
    account=$(stat -c %U "/proc/$1" 2>/dev/null)
    REPLY="pid $1 ($name) of ${account:-somebody}"
}

# End what runs of this bundle. As launch.sh does, it asks the leader of each session alone, since children would end with
# what they compute, and kills what leaders leave behind after a second. False where something stays for all that.
dync_end_left() { # GRACE_S
    local -i kill_at give_up asked=0 killed=0
    dync_uptime
    kill_at=$((REPLY + $1 * 100))
    for ((; ; )); do
        dync_find_left
        ((${#dync_left[@]})) || return 0
        dync_find_leaders
        ((asked++ || !${#dync_leaders[@]})) || kill -s TERM "${dync_leaders[@]}" 2>/dev/null
        dync_uptime
        ((${#dync_leaders[@]} || kill_at <= REPLY + 100)) || kill_at=$((REPLY + 100))
        if ((REPLY >= kill_at)); then
            ((killed)) || give_up=$((REPLY + 1000))
            ((killed++)) || dync_say "killed: pid ${dync_left[*]}"
            ((REPLY < give_up)) || return 1
            kill -s KILL "${dync_left[@]}" 2>/dev/null
        fi
        sleep 0.1
    done
}

dync_find_leaders() { # put in dync_leaders those of dync_left that lead a session
    local pid stat fields
    dync_leaders=()
    for pid in "${dync_left[@]}"; do
        { IFS= read -r -d '' stat <"/proc/$pid/stat"; } 2>/dev/null
        read -r -a fields <<<"${stat##*) }"
        [[ ${fields[3]-} != "$pid" ]] || dync_leaders+=("$pid")
    done
}
