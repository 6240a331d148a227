#!/bin/bash
# One run on one machine with several GPUs, that survives its time limit:
#   sbatch docs/slurm.sh photos/ --model resnet50 --out runs/photos
#
# Ten minutes before the limit Slurm sends SIGUSR1; every process stops after the same step, the
# state is saved, and the job puts itself back into the queue, where --resume auto resumes it.
#SBATCH --nodes=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=16
#SBATCH --time=04:00:00
#SBATCH --signal=B:USR1@600
#SBATCH --requeue
#SBATCH --open-mode=append

# The signal reaches this shell (the B above), which passes it on to torchrun; torchrun passes on
# only what it is told to, and gives its workers this long to save before it kills them.
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=540
trap 'asked=1; kill -USR1 "$torchrun"' USR1

torchrun --nproc-per-node="${SLURM_GPUS_ON_NODE:-1}" --standalone --max-restarts=3 \
  --signals-to-handle=SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1 \
  -m resnets train "$@" --resume auto &
torchrun=$!

# A signal ends a wait early; the save does not.
while :; do
  wait "$torchrun"
  code=$?
  kill -0 "$torchrun" 2>/dev/null || break
done

# Only a job that ran out of time goes back into the queue; an error would come again.
if [ -n "$asked" ] && [ "$code" -ne 0 ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
