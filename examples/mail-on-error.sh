#!/usr/bin/env bash
# mail-on-error.sh [LOG] [TO]: mails each ERROR and CRITICAL line of a log in the guide's format.
#
# This is the logging guide's script, repaired:
# - `tail -F` follows the name of the file, so it goes on after a rotation; `tail -f` stays with the old file.
# - The level is matched where it stands in a line. What a person wrote cannot match: the guide formatter writes the hyphens
#   of ` - ERROR - ` in a prompt as \u002d.
# - `read -r` with an empty IFS keeps backslashes and spaces; a mail that fails does not end the script.
#
# It still sends one mail a line. The alert plugin sends one a kind of failure, with a count: see configs/alerts.toml.
#
# MAIL is the command that mails (default: mail); it gets -s SUBJECT TO, and the line on its standard input.
set -euo pipefail
log=${1:-/tmp/vllm_app.log}
to=${2:-admin@example.com}
mail=${MAIL:-mail}
# $MAIL is also the name of a login's mailbox.
case $mail in /var/mail/* | /var/spool/mail/*) mail=mail ;; esac
if ! command -v "$mail" >/dev/null; then
  echo "mail-on-error.sh: there is no $mail: install a mail command (bsd-mailx, mailutils), or set MAIL" >&2
  exit 1
fi

# -n 0: only what is new. A file that is not there yet is waited for. Bytes, not characters, so that no line is "binary".
tail -n 0 -F -- "$log" 2>/dev/null |
  LC_ALL=C grep --line-buffered -a ' - ERROR - \| - CRITICAL - ' |
  while IFS= read -r line; do
    if ! printf '%s\n' "$line" | "$mail" -s "vLLM Server Error" "$to"; then
      echo "mail-on-error.sh: the mail to $to was not sent" >&2
    fi
  done
