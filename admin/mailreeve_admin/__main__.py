"""`python -m mailreeve_admin` is `mailreeve`."""

from mailreeve_admin.entry import main

main()
