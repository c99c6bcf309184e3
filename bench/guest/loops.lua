-- LuaJIT: traces of loops over numbers and tables, machine code that is made while the program runs, and its collector.
local function fib(n) if n < 2 then return n end return fib(n - 1) + fib(n - 2) end

local numbers = {}
for i = 1, 200000 do numbers[i] = (i * 7919) % 100003 end
table.sort(numbers)
local total = 0
for i = 1, 40000000 do total = total + numbers[i % 200000 + 1] * 0.5 end

-- Many small functions, each compiled anew.
for i = 1, 300 do
    local f = loadstring("local s = 0 for i = 1, 200 do s = s + i % " .. i .. " end return s")
    total = total + f()
end
local text = string.rep("ab", 100000):gsub("a", "xy")
print(fib(30), string.format("%.1f", total), #text)
