#!/bin/bash
systemctl reload php-fpm || service php-fpm reload
