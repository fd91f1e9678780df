#!/bin/bash
set -e
java -jar /opt/ledger/ledger.jar
nohup sleep 3600 >/var/log/ledger.log 2>&1 &
echo $! >/run/ledger.pid
