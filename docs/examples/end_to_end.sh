#!/bin/sh
# From a table of graded essays to a rater that is used elsewhere, in one go. tests/use/test_end_to_end.py runs it
# with the essays beside it and a tiny model.
#
#   sh docs/examples/end_to_end.sh TABLE FOLDER SCALE METHOD [KEY=VALUE ...]
#   sh docs/examples/end_to_end.sh ellipse.csv study 1:5:0.5 debiasing_dpo model=qwen3b data.limit.test=200
#
# TABLE: a file that `debiasdpo init` reads; FOLDER: where all goes; SCALE: LOW:HIGH[:STEP] of the scores; METHOD:
# one that trains (docs/methods.md); the rest goes to audit and training alike. Stopped, the same command goes on.
set -eu
table=$(realpath "$1") folder=$2 scale=$3 method=$4
shift 4
here=$(dirname "$(realpath "$0")")

# 1. What is in the table: texts, ids, groups, scores. Read what it writes before you trust the rest.
[ -e "$folder/conf" ] || debiasdpo init "$folder" --from "$table" --name essays --domain essays --scale "$scale"
cd "$folder"

# 2. How far do irrelevant statements move the untrained model?
debiasdpo audit --config-dir conf data=essays rate=expected "$@"

# 3. Is that more than 0.3 points in some category? 1 says yes, which training is for; 2, that it is not known.
debiasdpo gate outputs/runs/*_none_s0_* --max 0.3 --junit gate.xml || echo "gate: exit code $?"

# 4. Train, and measure on documents and wordings that were not trained on.
debiasdpo run --config-dir conf data=essays rate=expected method="$method" "$@"
run=$(echo outputs/runs/*_"$method"_s0_*)

# 5. Rate, and mark what a statement moves beyond a placebo. New documents need no scores.
debiasdpo rate "$run" "$table" --out ratings.csv --self-check

# 6. Take the rater elsewhere, and see that it rates there as here.
debiasdpo export "$run" --to rater --merge
case "$table" in
*.csv) python "$here/rate_elsewhere.py" rater "$table" ratings.csv ;;
*) echo "rate_elsewhere.py reads CSV files with commas alone; its code is in rater/README.md" ;;
esac

# 7. One page of it all.
debiasdpo report outputs/runs --out report
