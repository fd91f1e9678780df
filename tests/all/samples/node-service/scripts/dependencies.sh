#!/bin/bash
set -e
cd /srv/orders
test "$HOME" = /home/orders && test "$USER" = orders
npm ci --omit=dev
