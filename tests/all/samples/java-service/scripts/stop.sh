#!/bin/bash
if [ -f /run/ledger.pid ]; then kill "$(cat /run/ledger.pid)"; fi
