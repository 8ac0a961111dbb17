#!/usr/bin/env bash
# Makes the shipped policies from nothing: records demonstrations through the ROS topics, trains, evaluates.
# Everything is kept in runs/models and resumed: run it again after an interruption. Arguments: names, default all.
# Training calibrates the novelty too. For models from before it was made of demonstrations recorded as below, by
#   difftop model calibrate models/NAME --dataset runs/models/NAME/dataset
#
#   tools/make_models.sh                         both policies; about an hour on 2 cores
#   tools/make_models.sh panda_lift              point cloud and joints
#   tools/make_models.sh panda_lift_image        wrist picture and joints
#   tools/make_models.sh bc diffusion            other policies on panda_lift's demonstrations, to compare with; they stay in
#                                                runs/models/panda_lift/bc and runs/models/panda_lift/diffusion
set -euo pipefail
cd "$(dirname "$0")/.."
DIFFTOP=${DIFFTOP:-.venv/bin/difftop}

record() { # name, contract, demonstrations, share of varied starts
  local contract=$2 demos=$3 varied=$4 bags=runs/models/$1/bags have
  mkdir -p "$bags"
  have=$(find "$bags" -name episode.json | wc -l)
  if [ "$have" -lt "$demos" ]; then
    "$DIFFTOP" record --expert --contract "$contract" --task lift --out "$bags" --noise 0.02 --stay-steps 10 \
      --varied-starts "$varied" --seed "$have" --episodes $((demos - have))
  fi
}

train() { # name of the demonstrations, contract, name of the model, optimisation steps, further options
  local demos=$1 contract=$2 name=$3 steps=$4
  shift 4
  "$DIFFTOP" train --bags "runs/models/$demos/bags" --contract "$contract" --dataset "runs/models/$demos/dataset" \
    --out "runs/models/$demos/$name" --eval-episodes 50 --steps "$steps" --threads 1 \
    --turn-joint panda_joint1 --turn-rad 0.3 "$@"
}

make_model() { # name, contract, demonstrations, share of varied starts, optimisation steps
  local name=$1 contract=$2 demos=$3 varied=$4 steps=$5
  record "$name" "$contract" "$demos" "$varied"
  train "$name" "$contract" "$name" "$steps" --kl-weight 0.001 --proximal 0.5 --latent-modes 1
  mkdir -p "models/$name"
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
    bc | diffusion)
      record panda_lift config/panda_table.yaml 150 0.35
      train panda_lift config/panda_table.yaml "$name" 4000 --policy "$name"
      ;;
    *) echo "make_models: unknown policy '$name'; expected panda_lift, panda_lift_image, bc or diffusion" >&2; exit 2 ;;
  esac
done
