//! Faults of the protocol, put into the text of the functions: the trace check has to find each.

/// One fault.
pub struct Mutant {
    /// What is wrong then.
    pub name: &'static str,
    /// A text that stands in the library once.
    pub from: &'static str,
    pub to: &'static str,
}

const fn mutant(name: &'static str, from: &'static str, to: &'static str) -> Mutant {
    Mutant { name, from, to }
}

pub const MUTANTS: [Mutant; 30] = [
    mutant(
        "the fence of fail and release does not look at the token",
        "if value and sub(value, 1, #token + 1) == token .. ' ' then return sub(value, #token + 2) end",
        "if value then return match(value, ' (%S+)$') end",
    ),
    mutant(
        "the fence of complete does not look at the token",
        "if value and not seen[id] and find(value, start, 1, true) == 1 then",
        "if value and not seen[id] then",
    ),
    mutant(
        "answers of settle batches are not remembered",
        "  if number == batch then return letters end\n",
        "",
    ),
    mutant(
        "an older settle batch takes the place of the newer answer",
        "  if number and tonumber(number) > tonumber(batch) then return nil, true end\n",
        "",
    ),
    mutant(
        "promote leaves the task where it was, too",
        "    call('ZREMRANGEBYRANK', keys[SCHEDULED], 0, n - 1)\n",
        "",
    ),
    mutant(
        "promote takes out what is due, and dies before it puts it back with another call",
        "    call('ZADD', keys[PENDING], unpack(pending))\n    if not paused then wake(keys, n) end\n",
        "",
    ),
    mutant(
        "a completion is acknowledged and not done",
        "  if mine[1] then\n    call('HDEL', keys[TASKS], unpack(mine))\n    call('HDEL', running, unpack(mine))\n    if has_meta",
        "  if false then\n    if has_meta",
    ),
    mutant(
        "a renewal registers a session that has ended",
        "  if not held and argv[3] ~= '1' then return { 'lost', 0, due, '' } end\n",
        "",
    ),
    mutant(
        "reclaim takes from the living",
        "  if crashed and not is_dead(keys, consumer, now) then return { 0, 0, 0 } end\n",
        "",
    ),
    mutant(
        "nobody gets one more lease after a silence",
        "return tonumber(state[1] or '0') <= now and silence",
        "return silence",
    ),
    mutant(
        "sessions are judged in a silence",
        " and silence <= tonumber(state[3] or '0') * 2 / 3\n",
        "\n",
    ),
    mutant(
        "an id that is known is added again",
        "        if seen[id] or is_known(keys, id) then plan.duplicate[i] = true end\n",
        "",
    ),
    mutant(
        "a repeated enqueue is not recognised",
        "local before = session and answered(session, batch)",
        "local before = nil",
    ),
    mutant(
        "a lost claim is not answered again",
        "  if claimed and claimed ~= argv[3] and tonumber(claimed) > above then",
        "  if false then",
    ),
    mutant(
        "the token counts from the last one only",
        "int(math.max(last + 1, us))",
        "int(last + 1)",
    ),
    mutant(
        "a claim that found nothing does not park",
        "    if argv[4] == '1' then call('ZADD', keys[PARKED]",
        "    if argv[4] == '9' then call('ZADD', keys[PARKED]",
    ),
    mutant(
        "enqueue wakes nobody",
        "  if waiting > 0 and plan.parked > 0 and not plan.paused then wake(keys, waiting / 2) end\n",
        "",
    ),
    mutant(
        "reclaim wakes nobody",
        "  if waiting > 0 and not paused then wake(keys, math.max(1, back)) end\n",
        "",
    ),
    mutant(
        "a wake-up into the void counts",
        ", 'work') > 0 then n = n - 1 else gone = gone + 1 end",
        ", 'work') >= 0 then n = n - 1 else gone = gone + 1 end",
    ),
    mutant(
        "cancel leaves the task with its holder",
        "    call('ZREM', keys[SCHEDULED], id)\n  else\n    call('HDEL', running, id)\n",
        "    call('ZREM', keys[SCHEDULED], id)\n  else\n",
    ),
    mutant(
        "delete forgets the counters of a dead letter",
        "      call('HDEL', keys[META], id)\n      call('ZREM', keys[EXPIRING], id)\n      letter = 'd'",
        "      call('ZREM', keys[EXPIRING], id)\n      letter = 'd'",
    ),
    mutant(
        "a release burns an attempt",
        "      m.releases = m.releases + 1\n",
        "      m.failures = m.failures + 1\n",
    ),
    mutant(
        "the fourth death is poison",
        "if charged and deaths >= POISON_LIMIT and",
        "if charged and deaths > POISON_LIMIT and",
    ),
    mutant(
        "a suspect that died beside others bears no more than one that died alone",
        "local more = beside and 3 or 0",
        "local more = 0",
    ),
    mutant(
        "the third death condemns also what only waited in the same hands",
        " and tried ~= (token or '') .. ' ' .. id)",
        " and false)",
    ),
    mutant(
        "a suspect that was said to start is not charged",
        "  call('HSET', session, 'tried', tried)\n",
        "",
    ),
    mutant(
        "two maintainers",
        "  if ends and tonumber(ends) > now then return false end\n",
        "",
    ),
    mutant(
        "the sweep expires what runs",
        "      and call('ZREM', keys[PENDING], id) + call('ZREM', keys[SCHEDULED], id) > 0 then",
        "      and call('ZREM', keys[PENDING], id) + call('ZREM', keys[SCHEDULED], id) >= 0 then",
    ),
    mutant(
        "an attempt too many",
        "m.failures < (options.max_attempts or DEFAULT.max_attempts) then\n        local delay",
        "m.failures <= (options.max_attempts or DEFAULT.max_attempts) then\n        local delay",
    ),
    mutant(
        "a claim of a paused queue",
        "local taken = paused and { count = 0, waiting = 0 } or take(keys, n, room)",
        "local taken = take(keys, n, room)",
    ),
];
