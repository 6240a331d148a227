#!/bin/bash
# One run on one machine with several GPUs, that survives its time limit:
#   sbatch docs/slurm.sh photos/ --model resnet50 --out runs/photos
#
# Ten minutes before the limit Slurm sends SIGUSR1; every process stops after the same step, the
# state is saved, and the job puts itself back into the queue, where --resume auto goes on.
#SBATCH --nodes=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=16
#SBATCH --time=04:00:00
#SBATCH --signal=B:USR1@600
#SBATCH --requeue
#SBATCH --open-mode=append

# The signal reaches this shell (the B above), which passes it on to torchrun; torchrun passes on
# only what it is told to, and would leave its workers behind at any other signal.
trap 'kill -USR1 $torchrun' USR1

torchrun --nproc-per-node="${SLURM_GPUS_ON_NODE:-1}" --standalone --max-restarts=3 \
  --signals-to-handle=SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1 \
  -m resnets train "$@" --resume auto &
torchrun=$!

wait "$torchrun"   # a signal ends the first wait early ...
code=$?
while kill -0 "$torchrun" 2>/dev/null; do wait "$torchrun"; code=$?; done   # ... the save does not

# A run that is finished is left alone by --resume auto, so asking again is harmless.
if [ "$code" -ne 0 ] && [ -n "$SLURM_JOB_ID" ] && [ "${SLURM_RESTART_COUNT:-0}" -lt 50 ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
