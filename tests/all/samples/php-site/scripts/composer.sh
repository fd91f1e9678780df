#!/bin/bash
set -e
cd /var/www/shop
composer install --no-dev --no-interaction
