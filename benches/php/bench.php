<?php
// Serves turns: for each line `get`, `set` or `nothing` of the standard input, one pass
// over all keys; answers with nanoseconds an operation. Arguments: apcu or yac, keys.
[, $extension, $count] = $argv;
$yac = $extension === 'yac' ? new Yac() : null;
$keys = [];
for ($number = 0; $number < (int) $count; $number++) {
    $keys[] = sprintf('user:%08d', $number);
}
mt_srand(1);
shuffle($keys);
$value = str_repeat('x', 100);

function get_apcu(array $keys): void { foreach ($keys as $key) { apcu_fetch($key); } }
function get_yac(array $keys, Yac $yac): void { foreach ($keys as $key) { $yac->get($key); } }
function set_apcu(array $keys, string $value): void { foreach ($keys as $key) { apcu_store($key, $value); } }
function set_yac(array $keys, string $value, Yac $yac): void { foreach ($keys as $key) { $yac->set($key, $value); } }
function nothing(array $keys): void { foreach ($keys as $key) { } }

$yac ? set_yac($keys, $value, $yac) : set_apcu($keys, $value);
foreach ($keys as $key) {
    if (($yac ? $yac->get($key) : apcu_fetch($key)) !== $value) {
        fwrite(STDERR, "$key is not there\n");
        exit(1);
    }
}
while (($line = fgets(STDIN)) !== false) {
    $order = trim($line);
    $started = hrtime(true);
    match ($order) {
        'get' => $yac ? get_yac($keys, $yac) : get_apcu($keys),
        'set' => $yac ? set_yac($keys, $value, $yac) : set_apcu($keys, $value),
        'nothing' => nothing($keys),
    };
    echo (hrtime(true) - $started) / count($keys), "\n";
}
