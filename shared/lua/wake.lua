--[[ Wake-ups: a hint that makes an idle consumer claim at once. The guarantee is its slow poll.

A consumer that finds nothing parks in the same call, with a rank; whoever adds work wakes the
lowest ranks. What the rank is, time of parking, of the last task, or load, is the consumer's business: that is all
of load balancing that Redis knows. One that has gone (0 receivers) costs the next try; after five the poll must do.
]]
local MAX_WOKEN, MAX_GONE = 8, 5

local function wake(keys, n)
  if n > MAX_WOKEN then n = MAX_WOKEN end
  local channel, gone = prefix_of(keys) .. 'wake:', 0
  while n > 0 and gone < MAX_GONE do
    local parked = call('ZPOPMIN', keys[PARKED])
    if not parked[1] then return end
    if call('SPUBLISH', channel .. parked[1], 'work') > 0 then n = n - 1 else gone = gone + 1 end
  end
end

local function is_paused(keys) return call('HGET', keys[CFG], 'paused') == '1' end

-- The maintainer sleeps until something is due; what is due earlier has to reach it: 'due' (a task), 'look' (the
-- fleet) or 'jobs'.
local function wake_maintainer(keys, why)
  local maintainer = call('HGET', keys[STATE], 'maintainer')
  if maintainer then call('SPUBLISH', prefix_of(keys) .. 'wake:' .. maintainer, why) end
end
