#!/usr/bin/env bash
# Puts the road in the queue of a SLURM cluster: one process a GPU, and back into the queue by itself
# when it is interrupted (exit code 75, or ended by a signal: preempted, out of time).
#   launch/slurm.sh [OPTION ...] -- --config configs/ben14k.py --workdir DIR [--config.key=value ...]
#     --name NAME          of the job (rejepa); only one of a name is in the queue at a time
#     --nodes N            (1)              --gpus_per_node N  (1; 0 = processors only)
#     --tasks_per_node N   processes a node (as many as GPUs, and no other number of several)
#     --time LIMIT         of each stay on the machines (24:00:00)
#     --grace SECONDS      how long before that limit it is asked to save (120)
#     --tries N            stays on the machines at most (20)
#     --logs DIR           one file a process, NAME-JOB-PROCESS.log, and NAME-JOB.log (slurm_logs)
#     --setup FILE         shell commands to read on the node first: modules, an environment
#     --image FILE.sif     run in this image with Apptainer
#     --partition P  --account A  --sbatch=OPTION  --srun=OPTION   handed on; the last two repeat
#     --dry_run            only print the commands
# What follows `--` goes to rejepa_jax.main; --distributed is added where there are several processes.
# Exit codes: 0 submitted, 2 usage, 75 the scheduler did not answer.
set -euo pipefail

fail() {
  echo "slurm.sh: $2" >&2
  exit "$1"
}

# Prints a command as a line that a shell takes apart into the same words.
show() {
  local word line=''
  for word; do
    [[ $word =~ ^[A-Za-z0-9_@%+=:,./-]+$ ]] || word=${word@Q}
    line+=" $word"
  done
  echo "${line# }"
}

name=rejepa nodes=1 gpus=1 tasks='' limit=24:00:00 grace=120 tries=20 logs=slurm_logs
setup='' image='' is_dry='' sbatch_options=() srun_options=()
while (($#)) && [ "$1" != -- ]; do
  key=${1%%=*}
  case $key in
    --dry_run) is_dry=yes && shift && continue ;;
    --help | -h) sed -n '2,19s/^# \{0,1\}//p' "$0" && exit 0 ;;
    --*) ;;
    *) fail 2 "got '$1', expected an option; what goes to rejepa_jax.main stands after --" ;;
  esac
  if [ "$key" != "$1" ]; then
    value=${1#*=}
  elif (($# > 1)); then
    value=$2 && shift
  else
    fail 2 "$key: got no value"
  fi
  shift
  case $key in
    --name) name=$value ;;
    --nodes) nodes=$value ;;
    --gpus_per_node) gpus=$value ;;
    --tasks_per_node) tasks=$value ;;
    --time) limit=$value ;;
    --grace) grace=$value ;;
    --tries) tries=$value ;;
    --logs) logs=$value ;;
    --setup) setup=$value ;;
    --image) image=$value ;;
    --partition | --account) sbatch_options+=("$key=$value") ;;
    --sbatch) sbatch_options+=("$value") ;;
    --srun) srun_options+=("$value") ;;
    *) fail 2 "no option $key; launch/slurm.sh --help lists them" ;;
  esac
done
(($# > 1)) || fail 2 'got no -- with what to run after it, expected -- --config configs/X.py ...'
shift

[[ $name =~ ^[A-Za-z0-9][A-Za-z0-9._-]*$ ]] ||
  fail 2 "--name $name: expected letters, digits, '.', '_' and '-'"
tasks=${tasks:-${gpus/#0/1}}
for pair in "nodes $nodes" "gpus_per_node $gpus" "tasks_per_node $tasks" "grace $grace" \
  "tries $tries"; do
  [[ ${pair#* } =~ ^(0|[1-9][0-9]{0,5})$ ]] ||
    fail 2 "--${pair%% *}: got '${pair#* }', expected a number"
done
((nodes > 0 && tasks > 0 && tries > 0)) || fail 2 'expected at least one node, task and try'
# Of several processes each takes the one GPU of its number; one alone takes all that it sees.
((gpus == 0 || tasks == gpus || nodes * tasks == 1)) ||
  fail 2 "--tasks_per_node $tasks: expected $gpus, one process a GPU (--gpus_per_node $gpus)"
[[ $logs != *%* ]] || fail 2 "--logs $logs: '%' has a meaning of its own for SLURM; take another"
for file in "$setup" "$image"; do
  [ -z "$file" ] || [ -e "$file" ] || fail 2 "$file: no such file"
done
((nodes * tasks == 1)) || set -- "$@" --distributed

# No B: in --signal, so that it reaches the processes and not this batch script; srun itself would
# answer SIGTERM by ending them (https://slurm.schedmd.com/sbatch.html#OPT_signal).
submit=(sbatch --parsable --job-name="$name" --nodes="$nodes" --ntasks-per-node="$tasks"
  --time="$limit" --signal=TERM@"$grace" --requeue --open-mode=append
  --output="$logs/%x-%j.log")
((gpus == 0)) || submit+=(--gpus-per-node="$gpus")
submit+=(${sbatch_options[@]+"${sbatch_options[@]}"} "$(dirname "$0")/slurm_job.sh"
  "$tries" "$logs" "$setup" "$image" ${srun_options[@]+"${srun_options[@]}"} -- "$@")
list=(squeue --me --noheader --name="$name" --format='%i %T')

if [ "$is_dry" ]; then
  show "${list[@]}"
  show mkdir -p "$logs"
  show "${submit[@]}"
  exit 0
fi
command -v sbatch >/dev/null || fail 2 'no sbatch here; run this on a login node of the cluster'
there=$("${list[@]}") || fail 75 'squeue does not answer; try again'
[ -z "$there" ] || fail 2 "a job named $name is in the queue already ($there); see to it, or --name"
mkdir -p "$logs"
job=$("${submit[@]}") || fail 2 'sbatch refused the job; its own words stand above'
job=${job%%;*}
echo "submitted as job $job; nothing is paid for but its time on the machines"
echo "status  squeue --job $job"
echo "log     $(show tail -F "$logs/$name-$job-0.log")"
echo "stop    scancel $job    # saved work stays; submit again to go on"
