--[[ enqueue: new tasks into pending or scheduled. Refused under OOM.

KEYS  the shared keys, then optionally: producer session (idempotence of a repeated call)
ARGV  batch number of that session ('' without one) | flags: 'u' = the ids are fresh UUIDs, look no
      further | waiter session to tell when the tasks end ('' for none) | per task 3: id ('' = make
      one), head 'kind[ option=value ...][ LF extra JSON object]', payload
Reply letters (c created, d duplicate: the id's record or result is still here), then the made ids; or the
      error FULL: the queue has no room for all of them, and none was added
]]
local SESSION_TTL = '3600000'

-- A batch number that was answered gets the same answer; an older one was superseded long ago.
local function answered(session, batch)
  local seen = call('GET', session)
  if not seen then return nil end
  local number, letters, made = match(seen, '^(%d+) (%l*)\n(.*)$')
  if number == batch then
    local reply = { letters }
    for id in string.gmatch(made, '[^\n]+') do reply[#reply + 1] = id end
    return reply
  end
  if tonumber(number) > tonumber(batch) then return refuse('batch ' .. batch .. ' of this session was superseded') end
end

-- All tasks of a call come in, or none does: who sends a batch need not look for its lost half.
local function make_room(keys, list, plan)
  if plan.max_bytes then
    for i = 1, plan.n do
      if not plan.duplicate[i] then return full(keys, plan) end
    end
    return nil
  end
  local wanted, lowest = 0, 0
  for i = 1, plan.n do
    local priority = arrives_with(plan, list, i)
    if priority then wanted, lowest = wanted + 1, math.max(lowest, priority) end
  end
  local missing = wanted - plan.room
  if missing <= 0 then return nil end
  if plan.policy ~= 'shed' or missing > MAX_SHED then return full(keys, plan) end
  check_finish(keys)
  local victims = sheddable(keys)
  -- Victims stand the least urgent first: if the last one needed gives way, all before it do.
  if not victims[missing] or victims[missing].priority <= lowest then return full(keys, plan) end
  shed(keys, plan, victims, missing)
end

local function enqueue(keys, argv)
  local batch, n = argv[1], (#argv - 3) / WIDTH
  if n < 1 or n > MAX_BATCH or n ~= floor(n) then
    return refuse('enqueue takes 1 to ' .. MAX_BATCH .. ' tasks of ' .. WIDTH .. ' arguments after batch, flags, waiter')
  end
  if #argv[3] > 64 or find(argv[3], '[^%w-]') then return refuse('waiter must match [A-Za-z0-9-]{0,64}') end
  local session = keys[OWN + 1]
  if session and not find(batch, '^%d+$') then return refuse('batch must be a number when a session key is given') end
  local before = session and answered(session, batch)
  if before then return before end

  local now = clock()
  local plan, why = plan_tasks(keys, argv, 4, argv[2] == 'u', now, argv[3])
  if not plan then return refuse(why) end

  if plan.limit then
    local refused = make_room(keys, argv, plan)
    if refused then return refused end
  end
  local letters, made = add_tasks(keys, argv, plan, argv[3])
  if session then
    call('SET', session, batch .. ' ' .. letters .. '\n' .. table.concat(made, '\n'), 'PX', SESSION_TTL)
  end
  table.insert(made, 1, letters)
  return made
end

register('enqueue', enqueue)
