#!/bin/bash
set -e
test "$(stat -c "%U:%G %a" /var/www/shop/composer.json)" = "root:www-data 640"
test "$(stat -c "%a" /var/www/shop/storage)" = 755
grep -q shop /var/www/shop/public/index.php
