#!/usr/bin/env bash
# Makes the shipped policies from nothing: records demonstrations through the ROS topics, trains, evaluates.
# Everything is kept in runs/models and resumed: run it again after an interruption. Arguments: names, default all.
# Training calibrates the novelty too. For models from before it was made of demonstrations recorded as below, by
#   difftop model calibrate models/NAME --dataset runs/models/NAME/dataset
#
#   tools/make_models.sh                         both policies; about an hour on 2 cores
#   tools/make_models.sh panda_lift              point cloud and joints
#   tools/make_models.sh panda_lift_image        wrist picture and joints
set -euo pipefail
cd "$(dirname "$0")/.."
DIFFTOP=${DIFFTOP:-.venv/bin/difftop}

make_model() { # name, contract, demonstrations, share of varied starts, optimisation steps
  local name=$1 contract=$2 demos=$3 varied=$4 steps=$5 bags=runs/models/$1/bags have
  mkdir -p "$bags" "models/$name"
  have=$(find "$bags" -name episode.json | wc -l)
  if [ "$have" -lt "$demos" ]; then
    "$DIFFTOP" record --expert --contract "$contract" --task lift --out "$bags" --noise 0.02 --stay-steps 10 \
      --varied-starts "$varied" --seed "$have" --episodes $((demos - have))
  fi
  "$DIFFTOP" train --bags "$bags" --contract "$contract" --dataset "runs/models/$name/dataset" \
    --out "runs/models/$name/$name" --eval-episodes 50 --steps "$steps" --threads 1 \
    --turn-joint panda_joint1 --turn-rad 0.3 --kl-weight 0.001 --proximal 0.5 --latent-modes 1
  for file in model.safetensors config.yaml contract.yaml novelty.safetensors manifest.json training.yaml evaluation.json loss.png rollout.png README.md; do
    cp "runs/models/$name/$name/$file" "models/$name/$file"
  done
}

names=("$@")
[ ${#names[@]} -gt 0 ] || names=(panda_lift panda_lift_image)
for name in "${names[@]}"; do
  case $name in
    panda_lift) make_model panda_lift config/panda_table.yaml 150 0.35 4000 ;;
    panda_lift_image) make_model panda_lift_image config/panda_table_image.yaml 100 0 3500 ;;
    *) echo "make_models: unknown policy '$name'; expected panda_lift or panda_lift_image" >&2; exit 2 ;;
  esac
done
