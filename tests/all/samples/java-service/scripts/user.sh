#!/bin/bash
id ledger >/dev/null 2>&1 || useradd --system ledger
