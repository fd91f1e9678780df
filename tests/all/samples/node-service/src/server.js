require('http').createServer((_, answer) => answer.end('orders')).listen(3000)
