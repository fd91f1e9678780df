#!/bin/bash
set -e
php /var/www/shop/artisan migrate --force
