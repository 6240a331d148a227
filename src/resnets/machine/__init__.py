"""What this computer has: devices, processes, threads, downloads."""
