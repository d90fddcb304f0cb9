# launch/tpu.py --backend gke as an operator types it, with tools that are only played.
# shellcheck shell=bash disable=SC2030,SC2031,SC2016

bats_require_minimum_version 1.5.0

setup() {
  cd "$BATS_TEST_DIRNAME/../.." || exit
  export FAKE=$BATS_TEST_TMPDIR
  mkdir "$FAKE"/{bin,answers}
  for tool in kubectl gcloud gke-gcloud-auth-plugin xpk docker; do
    ln -s "$BATS_TEST_DIRNAME/fake_k8s/tool" "$FAKE/bin/$tool"
  done
  PATH=$FAKE/bin:$PATH
  answer 'gcloud container clusters list*' 0 us-west4
}

# Adds an answer: PATTERN CODE WHAT-IT-SAYS
answer() { printf '%s\n' "$@" >"$FAKE/answers/$(find "$FAKE/answers" -type f | wc -l)"; }

tpu() {
  local verb=$1
  shift
  "${PYTHON:-python3}" launch/tpu.py "$verb" ben --backend gke --project my-project \
    --zone us-west4-a --cluster tpus --accelerator_type v5litepod-16 \
    --workdir gs://my-bucket/runs/ben --config configs/ben14k.py \
    --image us-west4-docker.pkg.dev/my-project/rejepa/rejepa-jax:1 "$@"
}

pool() { echo "{\"name\": \"$1\", \"status\": \"$2\", \"config\": {\"labels\": {\"rejepa-job\": \"$3\"}}}"; }

@test "gke: run applies a JobSet and says what it costs" {
  run tpu run -- '--config.note=a b;$(touch owned)'
  [ "$status" -eq 0 ]
  grep -q 'apply --filename=-' "$FAKE/calls"
  [[ $(cat "$FAKE/stdin") == *'"kind": "JobSet"'*'"--config.note=a b;$$(touch owned)"'* ]]
  [[ $output == *'16 chips of v5e in us-west4'* ]]
  [ ! -e owned ]
}

@test "gke: a quota is the cloud's own sentence and exit code 1" {
  answer 'gcloud container node-pools create*' 1 'ERROR: Insufficient regional quota: TPU_V5'
  run tpu create
  [ "$status" -eq 1 ]
  [[ $output == *'Insufficient regional quota: TPU_V5'* ]]
}

@test "gke: delete asks for the name, and takes nothing that only looks like ours" {
  list='gcloud container node-pools list*'
  answer "$list" 0 "[$(pool ben-0 RUNNING other), $(pool bench-0 RUNNING bench)]"
  answer 'kubectl * get jobsets*' 0 '{"metadata": {"labels": {"rejepa-job": "ben"}}}'
  run tpu delete <<<'no'
  [ "$status" -eq 2 ]
  run ! grep -q delete "$FAKE/calls"
  run tpu delete <<<'ben'
  [ "$status" -eq 0 ]
  grep -q 'delete jobsets.jobset.x-k8s.io ben ' "$FAKE/calls"
  run ! grep -q 'node-pools delete' "$FAKE/calls"
}

@test "gke: status of a run that failed by its settings says its exit code and host" {
  answer 'kubectl * get jobsets*' 0 '{"metadata": {"labels": {"rejepa-job": "ben"}}, "status": {"conditions":
    [{"type": "Failed", "status": "True", "reason": "FailJobSetFailurePolicyAction"}]}}'
  answer 'kubectl * get pods*' 0 '{"items": [{"metadata": {"name": "ben-slice-0-3-x"}, "status":
    {"containerStatuses": [{"name": "rejepa", "state": {"terminated": {"exitCode": 2}}}]}}]}'
  run tpu status
  [ "$status" -eq 1 ]
  [[ $output == *'done (exit code 2) exit code 2 of ben-slice-0-3-x'* ]]
}

@test "gke: a tool that is missing is one line and exit code 2" {
  mkdir "$FAKE/only"
  local real # what is called python3 may be a script that needs other tools
  real=$("${PYTHON:-python3}" -c 'import os, sys; print(os.path.realpath(sys.executable))')
  PATH=$FAKE/only PYTHON=$real run tpu status
  [ "$status" -eq 2 ]
  [[ $output == *'gcloud: not found on PATH'* ]]
}

@test "gke: a JobSet of that name that somebody else made is left alone by every verb" {
  answer 'kubectl * get jobsets*' 0 '{"metadata": {"name": "ben", "labels": {"team": "other"}}}'
  for verb in run stop status resume 'delete --yes'; do
    # shellcheck disable=SC2086
    run tpu $verb
    [ "$status" -eq 2 ]
    [[ $output == *'JobSet ben in namespace default was not made here'* ]]
  done
  run ! grep -qE 'delete jobsets|apply|node-pools create' "$FAKE/calls"
}
