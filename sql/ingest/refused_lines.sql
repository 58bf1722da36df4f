SELECT line FROM refused WHERE file = $file;
