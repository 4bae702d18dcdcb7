#!/usr/bin/env bash
# Train under Slurm: tools/slurm_train.sh PARTITION JOB_NAME CONFIG [options of train.py]
# GPUS (8), GPUS_PER_NODE (8), CPUS_PER_TASK (8), GRACE (300 s) and SRUN_ARGS change the request.
# A job that is pre-empted or near its time limit saves, is queued again and goes on.
set -euo pipefail
if [ $# -lt 3 ]; then
  sed -n '2,4s/^# //p' "$0" >&2
  exit 2
fi
gpus="${GPUS:-8}"
per_node="${GPUS_PER_NODE:-8}"
folder="$(cd "$(dirname "$0")" && pwd)"
if [ -z "${SLURM_JOB_ID:-}" ]; then
  # The job is this script again. Its tasks get SIGUSR1 GRACE seconds before the limit.
  # shellcheck disable=SC2086
  exec sbatch -p "$1" --job-name="$2" --gres="gpu:$per_node" --ntasks="$gpus" \
    --ntasks-per-node="$per_node" --cpus-per-task="${CPUS_PER_TASK:-8}" \
    --requeue --signal="USR1@${GRACE:-300}" --open-mode=append ${SRUN_ARGS:-} <<EOT
#!/usr/bin/env bash
exec $(printf '%q ' "$folder/slurm_train.sh" "$@")
EOT
fi
resume=""
if [ "${SLURM_RESTART_COUNT:-0}" -gt 0 ]; then
  resume="--resume"
fi
trap : TERM USR1 # they are for the tasks; this waits for them
status=0
srun --ntasks="$gpus" --ntasks-per-node="$per_node" \
  --cpus-per-task="${CPUS_PER_TASK:-8}" --kill-on-bad-exit=1 \
  "${PYTHON:-python}" -u "$folder/train.py" "$3" --launcher slurm "${@:4}" $resume ||
  status=$?
if [ "$status" -eq 75 ]; then
  scontrol requeue "$SLURM_JOB_ID" || true # salloc's cannot be
fi
exit "$status"
