#!/bin/bash
set -e
systemctl is-active orders
test "$(stat -c "%U %a" /srv/orders/src/server.js)" = "orders 640"
test "$(stat -c "%U %a" /srv/orders/src)" = "orders 750"
