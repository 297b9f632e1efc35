-- Asks for the entries 0 to N-1 in a scattered order; N is the script's argument.

dofile(debug.getinfo(1, "S").source:match("^@(.*/)") .. "report.lua")

local STRIDE = 7919 -- a prime: it meets every entry before it meets one again

local requests, at = {}, 0

function init(args)
  local entries = tonumber(args[1])
  -- Made beforehand, so that the generator does not spend the cores on text.
  for number = 0, entries - 1 do
    requests[number] = wrk.format("GET", "/v1/result?url=https://bench.example/page/" .. number)
  end
end

function request()
  at = (at + STRIDE) % (#requests + 1)
  return requests[at]
end
