#!/bin/sh
# Runs once before the supervisor of compose.yaml: makes its secrets, where there are none yet, and imports the agents.
set -eu
umask 077
for name in supervisor_admin_token agent_sample; do
  if [ ! -s "/run/secrets/$name" ]; then
    python -c 'import secrets; print(secrets.token_urlsafe(32))' >"/run/secrets/$name.new"
    mv "/run/secrets/$name.new" "/run/secrets/$name"
  fi
done
exec supervisor agents import /srv/compose/agents.yaml
