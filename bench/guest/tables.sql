-- Insert, index, join, group.
begin;
create table t(a integer primary key, b text, c real);
create table u(x integer, y text);
with recursive n(i) as (select 1 union all select i + 1 from n where i < 60000)
  insert into t select i, 'row' || (i * 7919 % 10007), i * 1.5 from n;
with recursive n(i) as (select 1 union all select i + 1 from n where i < 20000)
  insert into u select i * 3, 'row' || i from n;
create index t_b on t(b);
create index u_x on u(x);
commit;
select count(*), sum(c) from t join u on t.b = u.y where u.x % 2 = 0;
select b, count(*) k from t group by b order by k desc, b limit 5;
select count(*) from t where b like '%99%';
update t set c = c + 1 where a % 3 = 0;
select sum(c) from t;
