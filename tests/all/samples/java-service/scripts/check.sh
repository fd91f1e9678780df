#!/bin/bash
kill -0 "$(cat /run/ledger.pid)"
