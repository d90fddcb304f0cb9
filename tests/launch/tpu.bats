#!/usr/bin/env bats
# launch/tpu.py as an operator starts it, with a gcloud that only plays a cloud (fake/gcloud).
# shellcheck shell=bash disable=SC1003,SC2016,SC2030,SC2031

setup() {
  here=$BATS_TEST_DIRNAME
  tpu=$here/../../launch/tpu.py
  export FAKE_CLOUD=$BATS_TEST_TMPDIR/cloud FAKE_RUN='sleep 0.1' PATH=$here/fake:$PATH
  mkdir -p "$FAKE_CLOUD"/hosts/{w-0,w-1}
  cd "$BATS_TEST_TMPDIR" || return
  mkdir -p root/{launch/cloud,configs,dist} && cd root || return
  cp "$here/../../launch/cloud/host.sh" launch/cloud && touch constraints.txt configs/a.py dist/w.whl
  answer describe 0 '{"description": "rejepa-job=base", "state": {"state": "ACTIVE"}}'
}

# Answers every command with this in it: PATTERN CODE WHAT-IT-SAYS
answer() {
  local stream=out
  (($2 == 0)) || stream=err
  python3 -c 'import json, sys; p, c, s, t = sys.argv[1:]; print(json.dumps([[p, [{"code": int(c), s: t}]]]))' \
    "$1" "$2" "$stream" "$3" >"$FAKE_CLOUD/answers.json"
}

launch() {
  local verb=$1
  shift
  "$tpu" "$verb" base --backend=qr --project=my-project --zone=us-west4-a \
    --accelerator_type=v5p-16 --workdir='gs://my-bucket/a run; $(touch owned)' \
    --config=configs/a.py --wheel=dist/w.whl "$@"
}

# The commands so far, without those that only ask, one a line.
given() { grep -v describe "$FAKE_CLOUD/log.jsonl"; }

@test "what a dry run prints can be copied, and is what is done" {
  nasty=(-- "--config.x=it's \"a\"; \`touch owned\` \$(touch owned) & > owned" '--config.y=a  b\')
  for verb in setup run logs stop delete; do
    launch "$verb" --dry_run "${nasty[@]}" >"$verb.txt"
    [ ! -e "$FAKE_CLOUD/log.jsonl" ]
    bash "$verb.txt" >/dev/null
    given >copied.txt
    cp build/launch/my-project.us-west4-a.qr.base/run.sh copied.sh
    rm "$FAKE_CLOUD/log.jsonl"
    launch "$verb" --yes "${nasty[@]}"
    given | diff copied.txt -
    diff copied.sh build/launch/my-project.us-west4-a.qr.base/run.sh
    rm "$FAKE_CLOUD/log.jsonl"
  done
  [ ! -e owned ] && [ ! -e "$FAKE_CLOUD/hosts/w-0/owned" ]
}

@test "create asks once, and says what it costs and how that ends" {
  answer describe 1 "NOT_FOUND: Resource 'x/base' was not found"
  run launch create --chip_hour_price=2
  [ "$status" -eq 0 ]
  [[ $output == *'$16.00 an hour'*'to delete it: launch/tpu.py delete base --backend=qr'* ]]
  [ "$(given | wc -l)" -eq 1 ]
}

@test "SUSPENDED is preempted, and nothing is set up there" {
  answer describe 0 '{"state": {"state": "SUSPENDED"}}'
  run launch status
  [[ $output == *'base: preempted SUSPENDED'* ]]
  run launch setup
  [ "$status" -eq 1 ]
  [[ $output == *'expected ready'* ]]
}

@test "delete deletes nothing where nobody says yes" {
  run launch delete </dev/null
  [ "$status" -eq 2 ]
  [ ! -e "$FAKE_CLOUD/log.jsonl" ]
}

@test "without gcloud, one line says so" {
  mkdir bin && ln -s "$(command -v env)" bin
  # A python3 that is a script of a version manager would not find what it needs there.
  ln -s "$(python3 -c 'import os, sys; print(os.path.realpath(sys.executable))')" bin/python3
  PATH=$PWD/bin run launch status
  [ "$status" -eq 2 ]
  [ "$output" = "launch/tpu.py: gcloud: not found on PATH; install it, then try again" ]
}

@test "--help lists the verbs, and what is unknown is refused" {
  run "$tpu" --help
  [ "$status" -eq 0 ]
  [[ $output == *check*create*setup*run*status*logs*ssh*resume*stop*delete*local* ]]
  run "$tpu" destroy base
  [ "$status" -eq 2 ]
  run launch status --zoned=us
  [ "$status" -eq 2 ]
}
