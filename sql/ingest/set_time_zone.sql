-- Times without an offset of their own are read in this zone; tables hold naive UTC and do not depend on it.
SET TimeZone = $zone;
