#!/bin/sh
# Runs once before the supervisor of compose.yaml: makes its secrets, where there are none yet, and imports the agents.
set -eu
umask 077
for name in supervisor_admin_token agent_sample; do
  if [ ! -s "/run/secrets/$name" ]; then
    supervisor keys generate >"/run/secrets/$name.new" 2>/dev/null
    mv "/run/secrets/$name.new" "/run/secrets/$name"
  fi
done
exec supervisor agents import /srv/compose/agents.yaml
