# Hashes, regular expressions, sorting, calls.
use strict;
use warnings;

sub digits { my $sum = 0; $sum += $_ for split //, shift; return $sum }

my (%count, $total);
for my $i (1 .. 300000) {
    my $key = "k" . ($i % 3000);
    $count{$key} += $i;
    $total += length $key;
    $total += $1 if $key =~ /k(\d)5/;
    $total += digits($i) if $i % 16 == 0;
}
my @order = sort { $count{$a} <=> $count{$b} or $a cmp $b } keys %count;
my $text = join ",", @order;
$text =~ s/(\d+)/<$1>/g;
print "$total ", scalar(@order), " @order[0..5] ", length $text, "\n";
