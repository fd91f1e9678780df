#!/bin/bash
if [ -f /var/www/shop/artisan ]; then php /var/www/shop/artisan down; fi
exit 0
