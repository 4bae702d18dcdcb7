#!/usr/bin/env bash
# Train on several GPUs: tools/dist_train.sh CONFIG GPUS [options of train.py]
# Several nodes: set NNODES, NODE_RANK and MASTER_ADDR (and PORT) on each.
set -euo pipefail
if [ $# -lt 2 ]; then
  sed -n '2,3s/^# //p' "$0" >&2
  exit 2
fi
# torchrun does not hand on the exit status of what it runs.
CMID_MM_EXIT_STATUS="$(mktemp)"
export CMID_MM_EXIT_STATUS
"${PYTHON:-python}" -m torch.distributed.run --nnodes="${NNODES:-1}" --node_rank="${NODE_RANK:-0}" \
  --master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="${PORT:-29500}" \
  --nproc_per_node="$2" "$(dirname "$0")/train.py" "$1" --launcher pytorch "${@:3}" &
launcher=$!
# To the processes themselves: torchrun would kill them after 30 seconds.
forward() { pkill "-$1" -P "$launcher" || kill "-$1" "$launcher" || true; }
trap 'forward TERM' TERM
trap 'forward USR1' USR1
trap : INT # from a terminal, torchrun has it, too
while status=0; wait "$launcher" || status=$?; kill -0 "$launcher" 2>/dev/null; do
  : # a signal has ended the wait
done
if [ -s "$CMID_MM_EXIT_STATUS" ]; then
  status="$(cat "$CMID_MM_EXIT_STATUS")"
fi
rm -f "$CMID_MM_EXIT_STATUS"
exit "$status"
