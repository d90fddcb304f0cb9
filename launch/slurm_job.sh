#!/usr/bin/env bash
# What launch/slurm.sh submits: runs on the first node of the job, starts one process a task there and
# on the others, and sends the job back into the queue when they were interrupted.
#   slurm_job.sh TRIES LOGS SETUP IMAGE [SRUN-OPTION ...] -- ARGUMENTS OF rejepa_jax.main
# Ends with the mistake of any process (1 training failed, 2 settings, 3 data), whatever became of
# the others; else with the highest exit code among them.
tries=$1 logs=$2 setup=$3 image=$4 mistake=$2/$SLURM_JOB_NAME-$SLURM_JOB_ID.mistake
shift 4
step=(srun --kill-on-bad-exit=0 --open-mode=append
  --output="$logs/$SLURM_JOB_NAME-$SLURM_JOB_ID-%t.log")
while [ "$1" != -- ]; do
  step+=("$1")
  shift
done
shift
if [ -n "$setup" ]; then
  # shellcheck source=/dev/null
  . "$setup" || exit 2
fi
# GPUs that were asked for and cannot be had are an error; JAX alone would go on on processors.
if [ -n "${SLURM_JOB_GPUS:-}" ] || [ "${SLURM_GPUS_ON_NODE:-0}" != 0 ]; then
  export JAX_PLATFORMS="${JAX_PLATFORMS:-cuda,cpu}"
fi
# srun tells the highest code, and a process that lost another to a mistake ends with more (134), so
# each task leaves its mistake in a file. SIGTERM reaches this shell too, which has to outlive it.
# shellcheck disable=SC2016 # for the shell of the task
step+=(bash -c 'trap : TERM; "$@"; code=$?
  case $code in [123]) echo $code >"$0-$SLURM_PROCID" ;; esac
  exit $code' "$mistake")
[ -z "$image" ] || step+=(apptainer exec --nv "$image")

# Which process it is and where the first one listens, JAX reads from SLURM's own variables; each
# takes the GPU that has its number on the node.
rm -f "$mistake"-*
"${step[@]}" "${PYTHON:-python3}" -m rejepa_jax.main "$@"
code=$?
for file in "$mistake"-*; do
  if [ -s "$file" ]; then code=$(<"$file"); fi
done
rm -f "$mistake"-*
if ((code != 75 && code < 128)); then exit "$code"; fi
if ((${SLURM_RESTART_COUNT:-0} + 1 >= tries)); then
  echo "interrupted (exit code $code), and $tries tries are over; submit it again to go on" >&2
  exit "$code"
fi
echo "interrupted (exit code $code); job $SLURM_JOB_ID goes back into the queue" >&2
scontrol requeue "$SLURM_JOB_ID" ||
  echo "job $SLURM_JOB_ID could not be put back; submit it again to go on" >&2
exit "$code"
