#!/usr/bin/env bash
# Train under Slurm: tools/slurm_train.sh PARTITION JOB_NAME CONFIG [options of train.py]
# GPUS (8), GPUS_PER_NODE (8), CPUS_PER_TASK (8) and SRUN_ARGS change the request.
set -euo pipefail
if [ $# -lt 3 ]; then
  sed -n '2,3s/^# //p' "$0" >&2
  exit 2
fi
gpus="${GPUS:-8}"
per_node="${GPUS_PER_NODE:-8}"
# shellcheck disable=SC2086
srun -p "$1" --job-name="$2" --gres="gpu:$per_node" --ntasks="$gpus" \
  --ntasks-per-node="$per_node" --cpus-per-task="${CPUS_PER_TASK:-8}" \
  --kill-on-bad-exit=1 ${SRUN_ARGS:-} \
  "${PYTHON:-python}" -u "$(dirname "$0")/train.py" "$3" --launcher slurm "${@:4}"
