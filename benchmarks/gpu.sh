#!/usr/bin/env bash
# The cost of training on a GPU, in at most ten minutes: steps of CMID with ResNet-50 and
# Swin-B in mixed precision against the bare passes of the backbone, eager and compiled,
# from memory and from the data loader. Writes one JSON file.
#
#     benchmarks/gpu.sh gpu.json
#
# LIMIT is how many seconds each of the two networks may take (290).
#
# Without a GPU, to see that it runs:
#     SMOKE=1 benchmarks/gpu.sh smoke.json
set -euo pipefail

out=${1:?usage: benchmarks/gpu.sh OUT.json}
here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python}
parts=$(mktemp -d)
trap 'rm -rf "$parts"' EXIT

if [[ -n ${SMOKE:-} ]]; then
    cases=("--config $here/../configs/cmid/cmid_r18_demo.py")
    common="--device cpu --batch-size 2 --image-size 64 --repeats 1 --parts
            --compile eager --workers 0 --files 2"
    limit=${LIMIT:-3600}
else
    cases=('--backbone r50' '--backbone swin-b')
    common="--device cuda --amp --batch-size ${BATCH_SIZE:-64} --repeats 20 --parts
            --compile inductor --workers ${WORKERS:-16} --files 512"
    limit=${LIMIT:-290}
fi
export PYTHONPATH=$here/..${PYTHONPATH:+:$PYTHONPATH}
for number in "${!cases[@]}"; do
    # What takes longer is left out, and the file says so, after what was measured.
    # shellcheck disable=SC2086
    timeout "$limit" "$python" "$here/train_step.py" ${cases[$number]} $common \
        --json "$parts/$number.json" ||
        printf '{"options": "%s", "failed": %d}\n' "${cases[$number]}" $? \
            >"$parts/$number.failed.json"
done
{
    printf '['
    separator=
    for part in "$parts"/*.json; do
        printf '%s' "$separator"
        cat "$part"
        separator=,
    done
    printf ']\n'
} >"$out"
echo "written: $out"
! grep -q '"failed"' "$out"
