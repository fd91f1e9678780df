#!/bin/bash
set -e
systemctl restart orders
