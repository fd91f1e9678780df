#!/bin/bash
set -e
systemctl stop orders
