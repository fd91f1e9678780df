#!/bin/bash
set -e
echo "APP_GROUP=$DEPLOYMENT_GROUP_NAME" >/var/www/shop/.env
