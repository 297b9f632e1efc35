-- Prints what a run of wrk came to as one line of JSON.

function done(summary, latency)
  local errors = summary.errors
  local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
  io.write(string.format(
    '{"requests":%d,"bytes":%d,"per_second":%.1f,"p50_us":%d,"p99_us":%d,"p999_us":%d,"failed":%d}\n',
    summary.requests, summary.bytes, summary.requests / (summary.duration / 1e6),
    latency:percentile(50), latency:percentile(99), latency:percentile(99.9), failed))
end
